#pragma once

#include <cstddef>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// Size of the pages large memory is asked to lie in: what x86-64 and AArch64 have above 4 KB. A walk through gigabytes
/// of weights then misses the TLB 512 times less often.
inline constexpr std::size_t huge_page = std::size_t{2} << 20U;

/// Below this a few small pages cost less than the memory that rounding to huge ones takes.
inline constexpr std::size_t huge_page_threshold = 2 * huge_page;

/// Asks the system to put the whole huge pages among `bytes` bytes at `data`, a multiple of huge_page, in huge pages. A
/// wish: where the system has none, or no MADV_HUGEPAGE, nothing happens. Contents are never touched.
inline void prefer_huge_pages([[maybe_unused]] std::byte* data, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    (void)::madvise(data, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
}

}  // namespace moe::inline MOE_ABI
