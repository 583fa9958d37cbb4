#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../parallel/executor.hpp"
#include "panel_source.hpp"

/// How products of rows and panels are cut into tasks for the workers of a call.
namespace moe::inline MOE_ABI::detail {

/// The scratch of every worker, each in cache lines of its own.
template <class T>
struct WorkerScratch {
    std::span<std::byte> memory;
    std::size_t bytes = 0;

    [[nodiscard]] static WorkerScratch take(Arena& arena, std::size_t n_workers) {
        Arena measure;
        (void)PanelScratch<T>::take(measure);
        return {arena.take<std::byte>(checked_multiply(n_workers, measure.used())), measure.used()};
    }
    [[nodiscard]] PanelScratch<T> of(std::size_t ith) const {
        Arena mine(memory.data() + ith * bytes, bytes);
        return PanelScratch<T>::take(mine);
    }
};

/// Products below which a parallel region costs more than it saves. 2^17 take some 5 us from the cache and 50 us from
/// memory; a parallel region costs 2 us where all its threads have a processor each, and milliseconds where they have
/// not, which for a tiny model is the difference between fast and unusable.
inline constexpr std::size_t few_products = std::size_t{1} << 17U;

/// Calls task(i, ith) once for every i below n_tasks, on the workers of `threads`, or on the calling thread alone where
/// all of them are but `products` products.
template <class Task>
void run_tasks(const char* layer, const ExecutorRef& threads, std::size_t n_tasks, std::size_t products, Task&& task) {
    TaskQueue queue;
    const auto work = [&](std::size_t ith, std::size_t nth) {
        ensure(ith < nth && nth <= threads.concurrency(), ErrorCode::range, layer, ": worker ", ith, " of ", nth,
               ", the executor announced ", threads.concurrency());
        for (std::size_t i = queue.take(); i < n_tasks; i = queue.take()) {
            task(i, ith);
        }
    };
    if (products < few_products || n_tasks <= 1) {
        const FloatEnvironment environment;
        work(0, 1);
    } else {
        threads.run(work);
    }
}

/// A product of rows and panels cut into tasks: few rows are one block, and the panels are shared out; many are blocks
/// enough for all workers.
class ProductCut {
public:
    ProductCut(std::size_t n_rows, std::size_t n_panels, std::size_t n_workers, std::size_t tile_rows)
        : n_rows_(n_rows), n_panels_(n_panels) {
        constexpr std::size_t tasks_per_worker = 4;
        const std::size_t even = divide_up(n_rows, tasks_per_worker * n_workers);
        rows_ = std::clamp<std::size_t>(round_up(even, tile_rows), 4 * tile_rows, max_task_rows);
        panels_ = blocks() >= tasks_per_worker * n_workers ? max_task_panels : 1;
    }

    struct Part {
        std::size_t first_row;
        std::size_t n_rows;
        PanelRange panels;
    };

    [[nodiscard]] std::size_t n_tasks() const noexcept { return blocks() * divide_up(n_panels_, panels_); }
    [[nodiscard]] Part part(std::size_t task) const noexcept {
        const std::size_t row = task % blocks() * rows_;
        const std::size_t panel = task / blocks() * panels_;
        return {row, (std::min)(rows_, n_rows_ - row), {panel, (std::min)(panels_, n_panels_ - panel)}};
    }

private:
    [[nodiscard]] std::size_t blocks() const noexcept { return divide_up(n_rows_, rows_); }

    std::size_t n_rows_;
    std::size_t n_panels_;
    std::size_t rows_;
    std::size_t panels_;
};

}  // namespace moe::inline MOE_ABI::detail
