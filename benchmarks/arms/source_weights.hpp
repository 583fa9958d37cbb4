#pragma once

#include <cstddef>

#include <moe/moe.hpp>

#include "../memory.hpp"
#include "../weights.hpp"

namespace bench {

/// gate, up and down of a bank in memory of their own, for as long as packing takes.
template <class W>
struct SourceWeights {
    HugeBuffer memory;
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;

    SourceWeights(std::size_t experts, std::size_t model, std::size_t ff, std::size_t layer, std::size_t group,
                  const Threads& threads)
        : memory(3 * experts * model * ff * sizeof(W)), n_experts(experts), d_model(model), d_ff(ff) {
        fill_stored<W>(threads, WeightStream(layer, group, Matrix::gate, d_model), {matrix(0), size()});
        fill_stored<W>(threads, WeightStream(layer, group, Matrix::up, d_model), {matrix(1), size()});
        fill_stored<W>(threads, WeightStream(layer, group, Matrix::down, d_ff), {matrix(2), size()});
    }

    [[nodiscard]] std::size_t size() const noexcept { return n_experts * d_model * d_ff; }
    [[nodiscard]] W* matrix(std::size_t number) const noexcept { return memory.as<W>().data() + number * size(); }
    [[nodiscard]] moe::ExpertBank<W, moe::Gated<moe::Silu>> bank() const {
        return moe::SwiGLU<W>{moe::stacked<W>(matrix(0), n_experts, d_ff, d_model),
                              moe::stacked<W>(matrix(1), n_experts, d_ff, d_model),
                              moe::stacked<W>(matrix(2), n_experts, d_model, d_ff)};
    }
};

/// The bank of a format that the library stores as an element type.
template <class W>
auto packed(std::size_t n_experts, std::size_t d_model, std::size_t d_ff, std::size_t layer, std::size_t group,
            const Threads& threads) {
    const SourceWeights<W> source(n_experts, d_model, d_ff, layer, group, threads);
    return moe::PackedExperts<W, moe::Gated<moe::Silu>>(source.bank(), threads);
}

}  // namespace bench
