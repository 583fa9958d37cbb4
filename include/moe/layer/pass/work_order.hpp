#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

#include "pass_state.hpp"

/// In which order Phase::hidden goes through the experts. Without a Residency it is that of their ids.
namespace moe::inline MOE_ABI::detail {

/// Tasks that bring experts stand before the products at place `p` of a wave, so that each is brought while all workers
/// but one have others to compute.
[[nodiscard]] inline WaveBrings brings_before(const PassWave& wave, std::size_t p, std::size_t n_workers) noexcept {
    const std::size_t first_missing = wave.first + wave.n_there;
    if (p < first_missing) {
        return {};
    }
    if (p == first_missing) {
        return {p, (std::min)(n_workers, wave.end - p)};
    }
    const std::size_t next = p + n_workers - 1;
    return {next, next < wave.end ? std::size_t{1} : std::size_t{0}};
}

/// Asks the Residency, if there is one, and cuts the active experts into waves, of each first those that are there.
template <class T>
void order_experts(PassState<T>& pass) {
    PassMemory<T>& memory = pass.memory;
    for (std::size_t i = 0; i < pass.n_active; ++i) {
        memory.order[i] = i;
    }
    memory.waves[0] = {0, pass.n_active, pass.n_active};
    pass.n_waves = 1;
    pass.residency = pass.y.cols() > 0 && pass.n_active > 0 ? pass.options.residency : nullptr;
    if (pass.residency == nullptr) {
        return;
    }
    const std::span<WantedExpert> wanted = memory.wanted.first(pass.n_active);
    for (std::size_t i = 0; i < pass.n_active; ++i) {
        wanted[i] = {.expert = memory.active[i]};
    }
    pass.residency->want(wanted);
    pass.n_waves = 0;
    for (std::size_t first = 0; first < pass.n_active;) {
        std::size_t end = first + 1;
        while (end < pass.n_active && !wanted[end].begins_wave) {
            ++end;
        }
        std::size_t place = first;
        for (const bool there : {true, false}) {
            for (std::size_t i = first; i < end; ++i) {
                if (wanted[i].there == there) {
                    memory.order[place++] = i;
                }
            }
            if (there) {
                memory.waves[pass.n_waves++] = {first, end, place - first};
            }
        }
        first = end;
    }
}

/// Lists the tasks of Phase::hidden: `products_of(i)` of active expert i, and before them those that bring experts.
template <class T, class ProductsOf>
void list_hidden_tasks(PassState<T>& pass, ProductsOf&& products_of) {
    PassMemory<T>& memory = pass.memory;
    std::size_t task = 0;
    for (std::size_t w = 0; w < pass.n_waves; ++w) {
        const PassWave& wave = memory.waves[w];
        for (std::size_t p = wave.first; p < wave.end; ++p) {
            const std::size_t products = products_of(memory.order[p]);
            memory.first_task[p] = task;
            task += products + brings_before(wave, p, pass.shape.n_workers).count;
            std::construct_at(&memory.hidden_left[memory.order[p]], products);
        }
    }
    memory.first_task[pass.n_active] = task;
}

}  // namespace moe::inline MOE_ABI::detail
