#pragma once

#include <cstddef>

#include "../memory.hpp"
#include "../threads.hpp"

namespace bench {

/// Bytes a second that all threads together read from memory: the limit of a layer that does nothing but stream its
/// weights. Several simple loops are tried once (streams a thread, prefetch distance); the best one is the probe.
class ReadProbe {
public:
    /// Over a buffer of `bytes`, which should be well beyond the last-level cache.
    ReadProbe(const Threads& threads, std::size_t bytes);

    /// Reads the next part of the buffer, some 5 ms of it.
    [[nodiscard]] double operator()();

    [[nodiscard]] std::size_t bytes() const noexcept { return buffer_.bytes(); }

private:
    using Loop = void (*)(const float* data, std::size_t count, std::size_t ahead);

    [[nodiscard]] double run(Loop loop, std::size_t ahead);

    Threads threads_;
    HugeBuffer buffer_;
    std::size_t next_ = 0;
    Loop loop_ = nullptr;
    std::size_t ahead_ = 0;
};

}  // namespace bench
