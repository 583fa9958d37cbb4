#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "../../core/alignment.hpp"
#include "../../core/overlap.hpp"
#include "../../experts/product_tasks.hpp"

/// What the updates of optimisers share: each element by itself, so that neither threads nor how memory is cut into
/// calls can change a bit.
namespace moe::inline MOE_ABI::detail {

/// Elements of a task: a few of its arrays fit into the second-level cache.
inline constexpr std::size_t task_elements = std::size_t{1} << 14U;

/// Calls part(first, count) for parts of 0..n-1 on the workers of `threads`, or on the calling thread where there are
/// few.
template <class Part>
void for_each_part(const char* name, const ExecutorRef& threads, std::size_t n, Part&& part) {
    constexpr std::size_t cost = 8;  // an element waits for memory as long as some products take
    run_tasks(name, threads, divide_up(n, task_elements), n <= task_elements ? 0 : cost * n,
              [&](std::size_t task, std::size_t) {
                  const std::size_t first = task * task_elements;
                  part(first, (std::min)(task_elements, n - first));
              });
}

/// The same without what belongs to experts of which `tokens` says 0; all where it is empty. `n` is a multiple of its
/// size.
template <class Part>
void for_each_used_part(const char* name, const ExecutorRef& threads, std::size_t n,
                        std::span<const std::uint64_t> tokens, Part&& part) {
    if (tokens.empty()) {
        return for_each_part(name, threads, n, part);
    }
    const std::size_t size = n / tokens.size();
    for_each_part(name, threads, n, [&](std::size_t first, std::size_t count) {
        for (const std::size_t end = first + count; first < end;) {
            const std::size_t e = first / size;
            const std::size_t of_expert = (std::min)(end, (e + 1) * size) - first;
            if (tokens[e] != 0) {
                part(first, of_expert);
            }
            first += of_expert;
        }
    });
}

/// Memory of an update and what errors call it.
template <class T>
struct NamedValues {
    const char* name;
    std::span<T> values;
};

/// Throws Error(shape, alignment, layout) unless all have the size of the first, and none overlaps another.
template <class T>
void check_update(const char* where, std::initializer_list<NamedValues<const T>> all,
                  std::span<const std::uint64_t> tokens) {
    const NamedValues<const T>& first = *all.begin();
    for (const NamedValues<const T>& part : all) {
        ensure(part.values.size() == first.values.size(), ErrorCode::shape, where, ": ", part.name, " has ",
               part.values.size(), " values, ", first.name, " has ", first.values.size());
        require_aligned(part.values.data(), where, part.name);
        for (const NamedValues<const T>* other = all.begin(); other != &part; ++other) {
            refuse_overlap(where, part.name,
                           overlaps(bytes_of(part.values), bytes_of(other->values)) ? other->name : nullptr);
        }
    }
    ensure(tokens.empty() || first.values.size() % tokens.size() == 0, ErrorCode::shape, where, ": ",
           first.values.size(), " values are not those of ", tokens.size(), " experts, for which there are counts");
}

/// Throws Error(range) unless low <= value <= high, which NaN is not.
inline void check_setting(const char* where, const char* name, double value, double low, double high) {
    ensure(value >= low && value <= high, ErrorCode::range, where, ": ", name, " is ", value, ", it must lie in ", low,
           "..", high);
}

}  // namespace moe::inline MOE_ABI::detail
