#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "error.hpp"
#include "huge_pages.hpp"
#include "index.hpp"

namespace moe::inline MOE_ABI {

/// Least alignment of every buffer the library makes: a cache line, and the widest vector register.
inline constexpr std::size_t buffer_alignment = 64;

/// Uninitialised bytes, aligned to `buffer_alignment`, owned. Large ones (huge_page_threshold) are aligned to huge
/// pages, and the system is asked to use these. Movable, not copyable.
class AlignedBuffer {
public:
    AlignedBuffer() = default;

    /// Throws std::bad_alloc as operator new does.
    explicit AlignedBuffer(std::size_t bytes) : data_(bytes == 0 ? nullptr : allocate(bytes)), bytes_(bytes) {
        if (bytes_ >= huge_page_threshold) {
            prefer_huge_pages(data_, bytes_);
        }
    }

    AlignedBuffer(AlignedBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    AlignedBuffer(const AlignedBuffer&) = delete;
    AlignedBuffer& operator=(const AlignedBuffer&) = delete;
    ~AlignedBuffer() {
        if (data_ != nullptr) {
            ::operator delete(data_, alignment_of(bytes_));
        }
    }

    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

private:
    [[nodiscard]] static std::align_val_t alignment_of(std::size_t bytes) noexcept {
        return std::align_val_t{bytes >= huge_page_threshold ? huge_page : buffer_alignment};
    }

    /// Asks for no more than half the address space, which no system has: standard libraries round a size up to its
    /// alignment without a look at overflow, and would turn the largest ones into a few bytes.
    [[nodiscard]] static std::byte* allocate(std::size_t bytes) {
        constexpr std::size_t most = (std::numeric_limits<std::size_t>::max)() / 2;
        return static_cast<std::byte*>(::operator new((std::min)(bytes, most), alignment_of(bytes)));
    }

    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Hands out aligned pieces of one block of memory, front to back. Over a null block it only counts: the same code that
/// lays out a workspace also tells how large it must be.
class Arena {
public:
    constexpr Arena() = default;
    constexpr Arena(std::byte* block, std::size_t bytes) : block_(block), capacity_(bytes) {}

    /// `count` uninitialised elements; a null-backed span when only counting. Throws Error(overflow).
    template <class T>
    [[nodiscard]] std::span<T> take(std::size_t count) {
        static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= buffer_alignment);
        const std::size_t begin = used_;
        const std::size_t bytes = checked_multiply(count, sizeof(T));
        used_ = checked_add(checked_add(begin, bytes), buffer_alignment - 1) / buffer_alignment * buffer_alignment;
        if (block_ == nullptr) {
            return {};
        }
        ensure(used_ <= capacity_, ErrorCode::capacity, "Arena: ", used_, " bytes are needed of a block of ",
               capacity_);
        return {reinterpret_cast<T*>(block_ + begin), count};
    }

    [[nodiscard]] constexpr std::size_t used() const noexcept { return used_; }

private:
    std::byte* block_ = nullptr;
    std::size_t capacity_ = 0;
    std::size_t used_ = 0;
};

/// Scratch memory of one call at a time. Its own memory grows to the largest call it has served and stays; memory of
/// the caller never grows. Keep one per thread that calls `forward` concurrently.
class Workspace {
public:
    Workspace() = default;

    /// Works in `memory`, which must outlive the workspace. A call that needs more throws Error(capacity).
    explicit Workspace(std::span<std::byte> memory) noexcept : memory_(memory), fixed_(true) {}

    /// Bytes available without growing.
    [[nodiscard]] std::size_t capacity() const noexcept {
        const std::span<std::byte> usable = usable_memory();
        return usable.size();
    }

    /// Makes at least `bytes` available. Throws Error(capacity) when the memory is the caller's and too small, or
    /// std::bad_alloc; what was available before stays so.
    void reserve(std::size_t bytes) {
        if (bytes <= capacity()) {
            return;
        }
        ensure(!fixed_, ErrorCode::capacity, "Workspace: ", bytes,
               " bytes are needed, but the memory given by the caller holds ", capacity(), " (after alignment to ",
               buffer_alignment, ")");
        owned_ = AlignedBuffer(bytes);
    }

    /// An arena over all of the memory. Whatever an earlier arena handed out is void.
    [[nodiscard]] Arena arena() noexcept {
        const std::span<std::byte> usable = usable_memory();
        return {usable.data(), usable.size()};
    }

private:
    [[nodiscard]] std::span<std::byte> usable_memory() const noexcept {
        if (!fixed_) {
            return {owned_.data(), owned_.size()};
        }
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
        const std::size_t skip = (buffer_alignment - address % buffer_alignment) % buffer_alignment;
        return skip < memory_.size() ? memory_.subspan(skip) : std::span<std::byte>{};
    }

    AlignedBuffer owned_;
    std::span<std::byte> memory_;
    bool fixed_ = false;
};

}  // namespace moe::inline MOE_ABI
