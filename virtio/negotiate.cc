// SPDX-License-Identifier: Apache-2.0
#include "virtio/negotiate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

constexpr std::uint64_t kVersion1 = spec::mask_of(spec::feature::kVersion1);
constexpr std::uint64_t kAnyLayout = spec::mask_of(spec::feature::kAnyLayout);
constexpr std::uint64_t kAccessPlatform = spec::mask_of(spec::feature::kAccessPlatform);
// Which every driver can use: its notifiers know the one. The other says that the device needs the barriers of hardware: on x86-64
// the fences of these rings are those, since they are the same instructions as between CPUs; where they are not it is declined, and
// the device may refuse that (section "Reserved Feature Bits").
#if defined(__x86_64__)
constexpr std::uint64_t kOrderPlatform = spec::mask_of(spec::feature::kOrderPlatform);
#else
constexpr std::uint64_t kOrderPlatform = 0;
#endif
constexpr std::uint64_t kPlatformBits = spec::mask_of(spec::feature::kNotificationData) | kOrderPlatform;
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
      return fail(Errc::kInvalid, fmt::format("virtio device type {} has no feature '{}'", device_id, name),
                  "use the specification's name in capitals, without VIRTIO_F_, VIRTIO_NET_F_ or VIRTIO_BLK_F_, for "
                  "example features=-STATUS");
    }
    bits |= spec::mask_of(*bit);
  }
  return bits;
}

/// Drops what needs something that is not there, until nothing more falls.
std::uint64_t without_orphans(std::uint64_t features, std::span<const FeatureDependency> dependencies) {
  for (bool again = true; again;) {
    again = false;
    for (const FeatureDependency& one : dependencies) {
      if ((features & spec::mask_of(one.feature)) == 0 || (features & one.any_of) != 0) continue;
      features &= ~spec::mask_of(one.feature);
      again = true;
    }
  }
  return features;
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

  std::uint64_t wanted = table.wanted | table.required | (table.on_request & insisted);
  std::uint64_t required = table.required;
  if (legacy) {
    offered &= kLegacyBits;
    // Section "Legacy Interface: Reserved Feature Bits": what is offered of this "transitional drivers MUST accept". It binds the
    // device alone.
    wanted = (wanted & kLegacyBits) | kAnyLayout;
    required &= kLegacyBits;
  } else {
    // Section "Reserved Feature Bits": "A driver MUST accept VIRTIO_F_VERSION_1 if it is offered", and a modern device
    // offers it. "A driver SHOULD accept VIRTIO_F_ACCESS_PLATFORM if it is offered, and it MUST then either disable the
    // IOMMU or configure the IOMMU to translate bus addresses" (the DMA space does that).
    wanted |= kVersion1 | kAccessPlatform | kPlatformBits;
    required |= kVersion1;
  }

  if (const std::uint64_t useless = insisted & ~wanted; useless != 0) {
    return fail(Errc::kInvalid, fmt::format("the driver cannot use {}", names_of(device_id, useless)),
                fmt::format("it can use {}", names_of(device_id, wanted | (legacy ? table.on_request & kLegacyBits
                                                                                  : table.on_request))));
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
  // Section "Feature Bits": "The driver MUST NOT accept a feature which the device did not offer, and MUST NOT accept a
  // feature which requires another feature which was not accepted".
  const std::uint64_t accepted = without_orphans(offered & wanted & ~declined, table.dependencies);
  if (const std::uint64_t missing = insisted & ~accepted; missing != 0) {
    return rejected(fmt::format("{} needs a feature that is declined or not offered", names_of(device_id, missing)),
                    "section \"Feature bit requirements\" of the specification says which; insist on that, too");
  }
  return accepted;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
