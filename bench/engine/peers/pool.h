// SPDX-License-Identifier: Apache-2.0
// What all thread pools have in common: closures go in, workers run them. Each adapter is the peer's own API, used as its
// documentation shows; what differs in kind between them is said in its settings.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bench {

using Function = void (*)(void*);

/// One thread's way into a pool. Used by the thread that made it only.
class Session {
 public:
  virtual ~Session() = default;
  virtual void submit(Function function, void* context) = 0;
  /// `count` closures, all alike; the loop is inside, so that one virtual call is shared by all.
  virtual void submit_many(std::size_t count, Function function, void* context) = 0;
  /// Does what the API asks of a submitter after the closures: libuv runs its loop. Others have nothing to do.
  virtual void settle() {}
};

class Pool {
 public:
  virtual ~Pool() = default;
  /// `capacity`: how many closures may be under way at once. What is intrusive has that many items, used again in turn.
  virtual std::unique_ptr<Session> session(std::size_t capacity) = 0;
};

struct PoolOptions {
  std::vector<int> cpus;            // one worker each, pinned
  std::chrono::nanoseconds spin{};  // how long an idle worker spins before it sleeps, where the peer can be told
};

/// A kind of pool that was found when this program was built.
struct PoolKind {
  std::string name;
  std::string version;
  std::function<std::unique_ptr<Pool>(const PoolOptions&)> make;
  std::function<std::string(const PoolOptions&)> settings;
};

PoolKind our_pool();
PoolKind our_unbound_pool();
/// oneTBB, asio, GThreadPool, libuv: those that were found. Those that were not: missing_peers().
std::vector<PoolKind> peer_pools();
const PoolKind* find_peer(const std::string& name);
/// Bare queues with spinning or sleeping consumers: what a queue costs at the least. (moodycamel, rte_ring.)
std::vector<PoolKind> floor_pools();
/// The Debian packages of peers that were not there when this program was built.
std::vector<std::string> missing_peers();

/// Makes each worker run once, all at the same time, and pins each to a CPU of its own. For pools that cannot be told
/// where their threads run.
void start_and_pin(Session& session, const std::vector<int>& cpus);

}  // namespace bench
