#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../memory.hpp"
#include "../threads.hpp"

namespace bench {

/// Size of a buffer for it: three times the last-level cache, but no more than a quarter of `budget`, bytes we may use.
[[nodiscard]] std::size_t read_probe_bytes(double budget);

/// Bytes a second that all threads together read from memory: the limit of a layer that does nothing but stream its
/// weights. Several simple loops are tried once (streams a thread, prefetch distance); the best one is the probe.
///
/// Where memory lies makes it up to 1.7 times as fast or slow on some virtual machines, from one process to the next.
/// So what is measured beside a layer is the memory that its weights are in.
class ReadProbe {
public:
    /// Over a buffer of `bytes`, which should be well beyond the last-level cache.
    ReadProbe(const Threads& threads, std::size_t bytes);

    /// Reads the next part of `memory`, some 5 ms of it; of its own buffer instead where `memory` is less than that.
    [[nodiscard]] double operator()(std::span<const std::byte> memory);

    [[nodiscard]] std::size_t bytes() const noexcept { return buffer_.bytes(); }

private:
    using Loop = void (*)(const std::int32_t* data, std::size_t count, std::size_t ahead);

    [[nodiscard]] double run(std::span<const std::int32_t> memory, Loop loop, std::size_t ahead);

    Threads threads_;
    HugeBuffer buffer_;
    std::size_t next_ = 0;
    Loop loop_ = nullptr;
    std::size_t ahead_ = 0;
};

}  // namespace bench
