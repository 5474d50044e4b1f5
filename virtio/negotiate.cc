// SPDX-License-Identifier: Apache-2.0
#include "virtio/negotiate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

constexpr std::uint64_t kVersion1 = spec::mask_of(spec::feature::kVersion1);
constexpr std::uint64_t kAccessPlatform = spec::mask_of(spec::feature::kAccessPlatform);
// The legacy interface has 32 feature bits only.
constexpr std::uint64_t kLegacyBits = 0xffff'ffffU;

std::string names_of(std::uint32_t device_id, std::uint64_t features) {
  return fmt::format("{}", fmt::join(feature_names(device_id, features), ", "));
}

Result<std::uint64_t> parse(std::uint32_t device_id, const std::vector<std::string>& names) {
  std::uint64_t bits = 0;
  for (const std::string& name : names) {
    const auto bit = spec::feature_bit(device_id, name);
    if (!bit) {
      return fail(
          Errc::kInvalid, fmt::format("virtio device type {} has no feature '{}'", device_id, name),
          "use the specification's name in capitals, without VIRTIO_F_ or VIRTIO_NET_F_, for example features=-STATUS");
    }
    bits |= spec::mask_of(*bit);
  }
  return bits;
}

std::unexpected<Error> rejected(std::string what, std::string advice) {
  return fail_verdict(Verdict::kRejected, "features", "device_feature", std::move(what), std::move(advice));
}

}  // namespace

std::vector<std::string> feature_names(std::uint32_t device_id, std::uint64_t features) {
  std::vector<std::string> names;
  for (unsigned bit = 0; bit < 64; ++bit) {
    if ((features & spec::mask_of(bit)) == 0) continue;
    const std::string_view name = spec::feature_name(device_id, bit);
    names.push_back(name.empty() ? fmt::format("bit {}", bit) : std::string(name));
  }
  return names;
}

Result<std::uint64_t> negotiate(const FeatureTable& table, std::uint64_t offered, std::uint32_t device_id, bool legacy,
                                const device::BindOptions& options) {
  UPCI_TRY_ASSIGN(const std::uint64_t insisted, parse(device_id, options.require_features));
  UPCI_TRY_ASSIGN(const std::uint64_t declined, parse(device_id, options.decline_features));
  if ((insisted & declined) != 0) {
    return fail(Errc::kInvalid,
                fmt::format("features={} is both insisted on and declined", names_of(device_id, insisted & declined)),
                "name each feature once, with + or with -");
  }

  std::uint64_t wanted = table.wanted | table.required;
  std::uint64_t required = table.required;
  if (legacy) {
    offered &= kLegacyBits;
    wanted &= kLegacyBits;
    required &= kLegacyBits;
  } else {
    // Section "Reserved Feature Bits": "A driver MUST accept VIRTIO_F_VERSION_1 if it is offered", and a modern device
    // offers it. "A driver SHOULD accept VIRTIO_F_ACCESS_PLATFORM if it is offered, and it MUST then either disable the
    // IOMMU or configure the IOMMU to translate bus addresses" (the DMA space does that).
    wanted |= kVersion1 | kAccessPlatform;
    required |= kVersion1;
  }

  if (const std::uint64_t useless = insisted & ~wanted; useless != 0) {
    return fail(Errc::kInvalid, fmt::format("the driver cannot use {}", names_of(device_id, useless)),
                fmt::format("it can use {}", names_of(device_id, wanted)));
  }
  if (const std::uint64_t needed = declined & required; needed != 0) {
    return fail(Errc::kInvalid, fmt::format("the driver needs {} and cannot decline it", names_of(device_id, needed)),
                "leave it out of features=");
  }
  if (const std::uint64_t missing = required & ~offered; missing != 0) {
    return rejected(fmt::format("the device does not offer {}, which the driver needs", names_of(device_id, missing)),
                    legacy ? "the device cannot be driven by this driver"
                           : "a device without VERSION_1 has only the legacy interface: try driver=legacy");
  }
  if (const std::uint64_t missing = insisted & ~offered; missing != 0) {
    return rejected(
        fmt::format("the device does not offer {}, which features=+ insists on", names_of(device_id, missing)),
        fmt::format("it offers {}", names_of(device_id, offered)));
  }
  // Section "Feature Bits": "The driver MUST NOT accept a feature which the device did not offer".
  return offered & wanted & ~declined;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
