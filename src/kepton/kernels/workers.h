// Work that threads share.
#pragma once

#include <thread>
#include <vector>

namespace kepton {

// work(0) here, and work(1), work(2), ... each on a thread of its own
template <class Work> void share_out(long workers, const Work& work) {
  std::vector<std::thread> others;
  for (long worker = 1; worker < workers; worker++)
    others.emplace_back([&work, worker] { work(worker); });
  work(0);
  for (auto& other : others) other.join();
}

}  // namespace kepton
