#pragma once

#include <algorithm>
#include <atomic>
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

    [[nodiscard]] std::byte* data() const& noexcept { return data_; }
    std::byte* data() const&& = delete;  // temporary: give the buffer a name
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

class Workspace;

/// The memory of a workspace while a call works in it: it can neither grow, move nor serve another call until the lease
/// ends. The workspace must outlive it. Movable.
class WorkspaceLease {
public:
    /// None.
    WorkspaceLease() = default;

    WorkspaceLease(WorkspaceLease&& other) noexcept : workspace_(std::exchange(other.workspace_, nullptr)) {}
    WorkspaceLease& operator=(WorkspaceLease&& other) noexcept {
        std::swap(workspace_, other.workspace_);
        return *this;
    }
    WorkspaceLease(const WorkspaceLease&) = delete;
    WorkspaceLease& operator=(const WorkspaceLease&) = delete;
    ~WorkspaceLease() { end(); }

    /// An arena over all of the memory.
    [[nodiscard]] Arena arena() const noexcept;

    void end() noexcept;

private:
    friend class Workspace;

    explicit WorkspaceLease(Workspace& workspace) noexcept : workspace_(&workspace) {}

    Workspace* workspace_ = nullptr;
};

/// Scratch memory of one call at a time. Its own memory grows to the largest call it has served and stays; memory of
/// the caller never grows. Keep one per thread that calls `forward` concurrently: one that serves a call, or a pass
/// that has been prepared and is not at its end, refuses any other with Error(state).
class Workspace {
public:
    Workspace() = default;

    /// Works in `memory`, which must outlive the workspace. A call that needs more throws Error(capacity).
    explicit Workspace(std::span<std::byte> memory) noexcept : memory_(memory), fixed_(true) {}

    /// The memory moves along; what is left has none. Throws Error(state) while a call works in either of them.
    Workspace(Workspace&& other) { *this = std::move(other); }
    Workspace& operator=(Workspace&& other) {
        ensure_idle();
        other.ensure_idle();
        owned_ = std::exchange(other.owned_, AlignedBuffer{});
        memory_ = std::exchange(other.memory_, {});
        fixed_ = std::exchange(other.fixed_, false);
        return *this;
    }
    ~Workspace() = default;

    /// Bytes available without growing.
    [[nodiscard]] std::size_t capacity() const noexcept { return memory().size(); }

    /// Makes at least `bytes` available. Throws Error(capacity) when the memory is the caller's and too small,
    /// Error(state) while a call works in it, or std::bad_alloc; what was available before stays so.
    void reserve(std::size_t bytes) {
        ensure_idle();
        grow(bytes);
    }

    /// Reserves `bytes` for one call and keeps all others away until the lease ends. Throws what reserve does.
    [[nodiscard]] WorkspaceLease lease(std::size_t bytes) & {
        if (busy_.exchange(true, std::memory_order_acquire)) {
            refuse();
        }
        WorkspaceLease lease(*this);
        grow(bytes);
        return lease;
    }
    WorkspaceLease lease(std::size_t) const&& = delete;  // temporary: give the workspace a name

    /// An arena over all of the memory. Whatever an earlier arena handed out is void. Throws Error(state) while a call
    /// works in it.
    [[nodiscard]] Arena arena() & {
        ensure_idle();
        return arena_of_all();
    }
    Arena arena() const&& = delete;  // temporary: give the workspace a name

    /// The bytes that calls work in.
    [[nodiscard]] std::span<const std::byte> memory() const& noexcept { return usable_memory(); }
    std::span<const std::byte> memory() const&& = delete;  // temporary: give the workspace a name

private:
    friend class WorkspaceLease;

    [[noreturn]] static void refuse() {
        raise_error(ErrorCode::state,
                    "Workspace: a call or a prepared pass is at work in it; what runs meanwhile needs "
                    "a workspace of its own");
    }
    void ensure_idle() const {
        if (busy_.load(std::memory_order_relaxed)) {
            refuse();
        }
    }

    void grow(std::size_t bytes) {
        if (bytes <= capacity()) {
            return;
        }
        ensure(!fixed_, ErrorCode::capacity, "Workspace: ", bytes,
               " bytes are needed, but the memory given by the caller holds ", capacity(), " (after alignment to ",
               buffer_alignment, ")");
        owned_ = AlignedBuffer(bytes);
    }

    [[nodiscard]] Arena arena_of_all() const noexcept {
        const std::span<std::byte> usable = usable_memory();
        return {usable.data(), usable.size()};
    }

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
    std::atomic<bool> busy_{false};  ///< atomic: a second thread in the same workspace is what it is to find
};

inline Arena WorkspaceLease::arena() const noexcept { return workspace_->arena_of_all(); }

inline void WorkspaceLease::end() noexcept {
    if (workspace_ != nullptr) {
        std::exchange(workspace_, nullptr)->busy_.store(false, std::memory_order_release);
    }
}

}  // namespace moe::inline MOE_ABI
