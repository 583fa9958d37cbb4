#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "load_balance.hpp"

namespace moe::inline MOE_ABI {

struct PooledLoadBalance {
    double coefficient = 1;  ///< 1e-3 in many configurations of Hugging Face
    double scale = 1;
};

/// The load balance loss as load_balancing_loss_func of Hugging Face transformers computes it, to train on as its users
/// did: the tokens of all layers are one batch, and nothing is divided by K, so that the value at balance is K, the
/// choices of a token. An imbalance of one layer may cancel out that of another: for a model of your own, sum
/// add_load_balance over the layers. `tapes`, one a layer, of as many experts each. Softmax shares, counts of choices,
/// everything else as add_load_balance. Throws Error, before anything is written, as it does, and for a null pointer
/// (null_pointer) or layers of different numbers of experts (shape).
template <class T>
double add_pooled_load_balance(const std::vector<Tape<T>*>& tapes, const PooledLoadBalance& options,
                               Workspace& workspace) {
    constexpr const char* name = "add_pooled_load_balance";
    double factor = 0;
    std::uint64_t n_tokens = 0;
    for (const Tape<T>* const tape : tapes) {
        ensure(tape != nullptr, ErrorCode::null_pointer, name, ": null among ", tapes.size(), " tapes");
        factor = detail::confirm_loss(name, *tape, options.coefficient, options.scale);
        detail::confirm_logits(name, *tape);
        detail::confirm_counts(name, detail::record_of(*tape), CountsFrom::choices, 0);
        ensure(tape->plan().n_experts == tapes[0]->plan().n_experts, ErrorCode::shape, name, ": a layer has ",
               tape->plan().n_experts, " experts, the first has ", tapes[0]->plan().n_experts);
        n_tokens += detail::n_valid(*tape);
    }
    if (n_tokens == 0) {
        return 0;
    }
    const std::size_t n_experts = tapes[0]->plan().n_experts;
    detail::BalanceMemory memory;
    const WorkspaceLease lease = workspace.lease(memory.lay_out({}, n_experts));
    memory.lay_out(lease.arena(), n_experts);
    const FloatEnvironment environment;
    std::fill(memory.counts.begin(), memory.counts.end(), std::uint64_t{0});
    for (const Tape<T>* const tape : tapes) {
        detail::count_tokens(detail::record_of(*tape), CountsFrom::choices, 0, 0, tape->x().rows(), memory.counts);
    }
    const detail::BalanceRule rule{ScoreKind::softmax, 0, detail::balance_norm(n_experts, 1, n_tokens), factor};
    double value = 0;
    for (Tape<T>* const tape : tapes) {
        value += detail::add_balance(*tape, rule, 0, tape->x().rows(), memory.counts, memory.shares);
    }
    return value;
}

}  // namespace moe::inline MOE_ABI
