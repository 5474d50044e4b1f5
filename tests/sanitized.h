// SPDX-License-Identifier: Apache-2.0
// UPCI_SANITIZED is defined where a sanitizer makes everything many times slower: tests of many cases do fewer there.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UPCI_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UPCI_SANITIZED 1
#endif
#endif
