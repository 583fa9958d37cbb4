#pragma once

#include <cstddef>
#include <span>

namespace bench {

/// Uninitialised memory in huge pages where the system has them, so that no measurement is one of the page tables.
class HugeBuffer {
public:
    HugeBuffer() = default;
    /// Throws std::bad_alloc.
    explicit HugeBuffer(std::size_t bytes);
    HugeBuffer(HugeBuffer&& other) noexcept;
    HugeBuffer& operator=(HugeBuffer&& other) noexcept;
    HugeBuffer(const HugeBuffer&) = delete;
    HugeBuffer& operator=(const HugeBuffer&) = delete;
    ~HugeBuffer();

    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    /// The whole of it as elements of T.
    template <class T>
    [[nodiscard]] std::span<T> as() const noexcept {
        return {static_cast<T*>(data_), bytes_ / sizeof(T)};
    }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Bytes the system could still give to a program; 0 where it does not say.
[[nodiscard]] std::size_t available_memory();
[[nodiscard]] std::size_t total_memory();

/// Bytes of the largest cache of a processor; 0 where the system does not say.
[[nodiscard]] std::size_t last_level_cache();

}  // namespace bench
