// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/uri.h"

#include <gtest/gtest.h>

#include <string>

namespace upci::tool {
namespace {

using emulation::WireSpec;
using Interface = device::BindOptions::Interface;

TEST(Uri, SplitsSchemeModelAndWords) {
  const auto uri = parse_uri("qemu:virtio-net-pci,disable-legacy=on,host_mtu=9000");
  ASSERT_TRUE(uri) << uri.error().message();
  EXPECT_EQ(uri->scheme, Scheme::kQemu);
  EXPECT_EQ(uri->spec.model, "virtio-net-pci");
  EXPECT_EQ(uri->spec.uri, "qemu:virtio-net-pci,disable-legacy=on,host_mtu=9000");
  ASSERT_EQ(uri->spec.words.size(), 2U);
  EXPECT_EQ(uri->spec.words[0].key, "disable-legacy");
  EXPECT_EQ(uri->spec.words[0].value, "on");
  EXPECT_EQ(uri->spec.words[1].key, "host_mtu");
}

TEST(Uri, AddressIsAFunctionThroughVfio) {
  for (const char* text : {"0000:65:00.0", "vfio:0000:65:00.0", "vfio:0000:65:00.0,access=iommufd"}) {
    const auto uri = parse_uri(text);
    ASSERT_TRUE(uri) << text << ": " << uri.error().message();
    EXPECT_EQ(uri->scheme, Scheme::kVfio) << text;
    EXPECT_EQ(uri->address.to_string(), "0000:65:00.0") << text;
  }
}

TEST(Uri, ReservedWordsDoNotReachTheModel) {
  const auto uri = parse_uri("emu:virtio-net,transitional,driver=legacy,node=1,wire=cable:a,fault=status-stuck");
  ASSERT_TRUE(uri) << uri.error().message();
  ASSERT_EQ(uri->spec.words.size(), 1U);
  EXPECT_EQ(uri->spec.words[0].key, "transitional");
  EXPECT_EQ(uri->options.interface, Interface::kLegacy);
  EXPECT_EQ(uri->spec.node, 1);
  EXPECT_EQ(uri->spec.fault, "status-stuck");
  EXPECT_EQ(uri->spec.wire.kind, WireSpec::Kind::kCable);
  EXPECT_EQ(uri->spec.wire.name, "a");
  EXPECT_TRUE(uri->wire_given);
}

TEST(Uri, FaultsOfThePlatformAreForEveryScheme) {
  for (const char* text :
       {"0000:65:00.0,fault=dma-unmapped", "qemu:virtio-net-pci,fault=irq-lost", "emu:virtio-net,fault=irq-lost"}) {
    const auto uri = parse_uri(text);
    ASSERT_TRUE(uri) << text << ": " << uri.error().message();
    EXPECT_FALSE(uri->platform_fault.empty()) << text;
    EXPECT_TRUE(uri->spec.fault.empty()) << text;
  }
}

TEST(Uri, DiskIsTheFileOfABlockDevice) {
  const auto uri = parse_uri("qemu:virtio-blk-pci,disk=/tmp/a=b.img,num-queues=4,features=-VIRTIO_BLK_F_MQ:+flush");
  ASSERT_TRUE(uri) << uri.error().message();
  EXPECT_EQ(uri->spec.disk, "/tmp/a=b.img");
  ASSERT_EQ(uri->spec.words.size(), 1U);
  EXPECT_EQ(uri->options.decline_features, (std::vector<std::string>{"MQ"}));
  EXPECT_EQ(uri->options.require_features, (std::vector<std::string>{"FLUSH"}));
}

TEST(Uri, FeaturesAreInsistedOnOrDeclinedByTheSpecificationsNames) {
  const auto uri = parse_uri("emu:virtio-net,features=+MRG_RXBUF:-event_idx:+VIRTIO_F_VERSION_1:-VIRTIO_NET_F_MTU");
  ASSERT_TRUE(uri) << uri.error().message();
  EXPECT_EQ(uri->options.require_features, (std::vector<std::string>{"MRG_RXBUF", "VERSION_1"}));
  EXPECT_EQ(uri->options.decline_features, (std::vector<std::string>{"EVENT_IDX", "MTU"}));
}

TEST(Uri, RefusesWhatTextAloneShowsToBeWrong) {
  for (const char* text : {
           "",
           ":",
           "emu",
           "emu:",
           "qemu:",
           "vfio:",
           "xyz:virtio-net",
           "virtio-net",
           "EMU:virtio-net",
           "emu :virtio-net",
           // addresses
           "65:00",
           "0000:65:00.8",
           "0000:65:20.0",
           "0000:65:00.0.0",
           "vfio:65",
           "vfio:virtio-net",
           "0000:65:00.0,",
           "0000:65:00.0,access=",
           "0000:65:00.0,access",
           "0000:65:00.0,access=root",
           "0000:65:00.0,modern",
           "0000:65:00.0,fault=status-stuck",
           "0000:65:00.0,wire=loopback",
           "0000:65:00.0,node=0",
           // models and words
           "emu:virtio-blk",
           "emu:virtio-net,",
           "emu:virtio-net,,modern",
           "emu:virtio-net,ancient",
           "emu:virtio-net,modern,legacy",
           "emu:virtio-net,modern,modern",
           "emu:virtio-net,modern=1",
           "emu:virtio-net,=x",
           "qemu:virtio-net-pci,disable-legacy",
           "qemu:virtio net",
           "qemu:virtio-net-pci,",
           "qemu:virtio-net-pci,host_mtu=1500,host_mtu=9000",
           "qemu:-device,x=y/",
           // reserved words
           "emu:virtio-net,fault=",
           "emu:virtio-net,fault",
           "emu:virtio-net,fault=nonsense",
           "emu:virtio-net,fault=gone,fault=gone",
           "qemu:virtio-net-pci,fault=status-stuck",
           "emu:virtio-net,driver=old",
           "emu:virtio-net,driver",
           "emu:virtio-net,driver=",
           "emu:virtio-net,wire=",
           "emu:virtio-net,wire=rope",
           "emu:virtio-net,wire=cable:",
           "emu:virtio-net,wire=unix:",
           "emu:virtio-net,wire=tap:t0",
           "emu:virtio-net,legacy,wire=vhost-user:s",
           "emu:virtio-net,wire=vhost-user:s:2",
           "qemu:virtio-net-pci,wire=tap:",
           "qemu:virtio-net-pci,wire=tap:t0:0",
           "qemu:virtio-net-pci,wire=tap:t0:257",
           "qemu:virtio-net-pci,wire=tap:t0:x",
           "qemu:virtio-net-pci,wire=tap::4",
           "qemu:virtio-net-pci,wire=vhost-user:",
           "emu:virtio-net,disk=d.img",
           "0000:65:00.0,disk=d.img",
           "qemu:virtio-blk-pci,disk=",
           "qemu:virtio-blk-pci,disk",
           "emu:virtio-net,node=-1",
           "emu:virtio-net,node=",
           "emu:virtio-net,node=x",
           "emu:virtio-net,node=99999",
           "emu:virtio-net,features=",
           "emu:virtio-net,features=MRG_RXBUF",
           "emu:virtio-net,features=+",
           "emu:virtio-net,features=+NONSENSE",
           "emu:virtio-net,features=+MTU:+MTU",
           "emu:virtio-net,features=+MTU:-MTU",
           "emu:virtio-net,features=+MTU:",
           "emu:virtio-net,features=*MTU",
       }) {
    const auto uri = parse_uri(text);
    ASSERT_FALSE(uri) << text;
    EXPECT_EQ(uri.error().code, Errc::kInvalid) << text;
    EXPECT_FALSE(uri.error().what.empty()) << text;
    EXPECT_FALSE(uri.error().advice.empty()) << text << ": " << uri.error().what << ": says not what to do";
  }
}

TEST(Uri, MessageAboutAWireNamesThoseThatThereAre) {
  const auto uri = parse_uri("emu:virtio-net,wire=tap:t0");
  ASSERT_FALSE(uri);
  EXPECT_NE(uri.error().advice.find("cable:NAME"), std::string::npos);
}

TEST(Uri, AWireOfQemusCanHaveSeveralQueues) {
  const auto tap = parse_uri("qemu:virtio-net-pci,wire=tap:t0:4");
  ASSERT_TRUE(tap);
  EXPECT_EQ(tap->spec.wire.kind, emulation::WireSpec::Kind::kTap);
  EXPECT_EQ(tap->spec.wire.name, "t0");
  EXPECT_EQ(tap->spec.wire.queues, 4);
  const auto vhost = parse_uri("qemu:virtio-net-pci,wire=vhost-user:dir/backend.sock");
  ASSERT_TRUE(vhost);
  EXPECT_EQ(vhost->spec.wire.kind, emulation::WireSpec::Kind::kVhostUser);
  EXPECT_EQ(vhost->spec.wire.name, "dir/backend.sock");
  EXPECT_EQ(vhost->spec.wire.queues, 1);
}

TEST(Uri, AnyBytesAreRefusedOrTakenButNeverDoHarm) {
  std::string text;
  std::uint32_t state = 1;
  for (int round = 0; round < 20'000; ++round) {
    static constexpr std::string_view kPieces[] = {"emu:",  "qemu:",  "virtio-net",   ",",     "=",         ":",
                                                   "wire=", "cable:", "fault=",       "node=", "features=", "+",
                                                   "-",     "MTU",    "0000:65:00.0", "\xff",  "\0"};
    state = state * 1664525 + 1013904223;
    if (state % 7 == 0) text.clear();
    text += kPieces[(state >> 16U) % std::size(kPieces)];
    const auto uri = parse_uri(text);
    if (uri) continue;
    EXPECT_EQ(uri.error().code, Errc::kInvalid) << text;
  }
}

}  // namespace
}  // namespace upci::tool
