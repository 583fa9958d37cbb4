#pragma once

#include <cstddef>

/// The global operator new and delete of the program that links counting_allocator.cpp: they count, and fail on demand.
/// Plain and aligned, throwing and not. Counted for all threads together.
namespace moe_test {

/// Allocations so far.
[[nodiscard]] std::size_t allocations();

/// Bytes that were asked for so far, those freed since included.
[[nodiscard]] std::size_t allocated_bytes();

/// Bytes that are asked for while `action` runs.
template <class Action>
[[nodiscard]] std::size_t bytes_allocated_by(Action&& action) {
    const std::size_t before = allocated_bytes();
    action();
    return allocated_bytes() - before;
}

/// Blocks allocated and not yet freed.
[[nodiscard]] std::ptrdiff_t live_blocks();

/// The `n`-th allocation from now (1 is the next) throws std::bad_alloc, those after it work again; 0 for none.
void fail_allocation(std::size_t n);

}  // namespace moe_test
