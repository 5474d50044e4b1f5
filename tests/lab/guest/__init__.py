# SPDX-License-Identifier: Apache-2.0
"""The part of the laboratory that runs in the guest."""
