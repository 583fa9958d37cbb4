#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/mman.h>
#include <unistd.h>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// What the operating system is told and asked about pages of memory, and nothing it does changes what they hold.
/// Derive to put something else in its place. Ranges begin and end at pages: see pages_of and pages_within.
class Pages {
public:
    /// What became of reading pages.
    enum class Read : unsigned char {
        done,         ///< they are in memory
        unsupported,  ///< the system does not read on request (Linux before 5.14, others), or does not now
        failed,       ///< what they are mapped from cannot be read: to touch them would end the process
    };

    Pages() = default;
    Pages(const Pages&) = default;
    Pages& operator=(const Pages&) = default;
    virtual ~Pages() = default;

    /// Bytes of a page, a power of two.
    [[nodiscard]] virtual std::size_t page_bytes() const { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

    /// Whether all of a range is in memory. true where the system does not tell: Linux says so of files that the
    /// process neither owns nor may write.
    [[nodiscard]] virtual bool resident(std::span<const std::byte> range) const {
#if defined(__linux__)
        const std::size_t bytes = page_bytes();
        std::array<unsigned char, 1024> states{};
        while (!range.empty()) {
            const auto part = range.first((std::min)(range.size(), states.size() * bytes));
            if (::mincore(address(part), part.size(), states.data()) != 0) {
                return true;
            }
            const auto last = states.begin() + static_cast<std::ptrdiff_t>((part.size() + bytes - 1) / bytes);
            if (!std::all_of(states.begin(), last, [](unsigned char state) { return (state & 1U) != 0; })) {
                return false;
            }
            range = range.subspan(part.size());
        }
#else
        (void)range;
#endif
        return true;
    }

    /// Begins to read what is not in memory, and does not wait.
    virtual void start_reading(std::span<const std::byte> range) const {
#if defined(MADV_WILLNEED)
        // Linux reads of one request no more than the device's read-ahead; that is seldom less than this.
        constexpr std::size_t together = std::size_t{1} << 17U;
        while (!range.empty()) {
            const auto part = range.first((std::min)(range.size(), together));
            (void)::madvise(address(part), part.size(), MADV_WILLNEED);
            range = range.subspan(part.size());
        }
#else
        (void)range;
#endif
    }

    /// Reads a range and waits for it.
    [[nodiscard]] virtual Read read(std::span<const std::byte> range) const {
#if defined(__linux__)
        constexpr int populate_read = 22;  // MADV_POPULATE_READ, which headers may be too old for
        constexpr int poisoned = 133;      // EHWPOISON
        if (::madvise(address(range), range.size(), populate_read) == 0) {
            return Read::done;
        }
        return errno == EFAULT || errno == poisoned ? Read::failed : Read::unsupported;
#else
        (void)range;
        return Read::unsupported;
#endif
    }

    /// Says that a range is not used now: if memory is short, it may go first.
    virtual void let_go(std::span<const std::byte> range) const {
#if defined(__linux__)
        constexpr int cold = 20;  // MADV_COLD
        (void)::madvise(address(range), range.size(), cold);
#else
        (void)range;
#endif
    }

private:
    [[nodiscard]] static void* address(std::span<const std::byte> range) noexcept {
        return const_cast<std::byte*>(range.data());  // NOLINT: the system writes nothing
    }
};

/// The pages that have any byte of `bytes`.
[[nodiscard]] inline std::span<const std::byte> pages_of(std::span<const std::byte> bytes,
                                                         std::size_t page_bytes) noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::size_t before = begin % page_bytes;
    const std::size_t after = (page_bytes - (begin + bytes.size()) % page_bytes) % page_bytes;
    return bytes.empty() ? bytes : std::span<const std::byte>(bytes.data() - before, before + bytes.size() + after);
}

/// The pages that have no other bytes: none of a neighbour's.
[[nodiscard]] inline std::span<const std::byte> pages_within(std::span<const std::byte> bytes,
                                                             std::size_t page_bytes) noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::size_t before = (page_bytes - begin % page_bytes) % page_bytes;
    const std::size_t after = (begin + bytes.size()) % page_bytes;
    return before + after >= bytes.size() ? std::span<const std::byte>{}
                                          : bytes.subspan(before, bytes.size() - before - after);
}

}  // namespace moe::inline MOE_ABI
