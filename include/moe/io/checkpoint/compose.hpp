#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../../layer/any_layer.hpp"
#include "../../model/make_layer.hpp"
#include "../gguf_value.hpp"
#include "block_tensors.hpp"
#include "stored_tensors.hpp"

namespace moe::inline MOE_ABI::detail {

/// The small tensors of a layer as floats, which a layer of a checkpoint keeps, and biases that had to be converted.
struct SmallTensors {
    std::vector<float> router, router_bias, selection_bias, per_expert_scale, output_bias, shared_gate;
    std::vector<std::int32_t> hash_table;
    std::size_t hash_columns = 0;
    std::vector<std::vector<float>> biases;
};

/// `count` floats of a tensor, or none where there is no tensor. Throws Error(shape) naming it and both numbers.
[[nodiscard]] inline std::vector<float> floats_of(const StoredTensor* tensor, std::size_t count) {
    if (tensor == nullptr) {
        return {};
    }
    std::size_t extents = 1;
    for (const std::size_t extent : tensor->shape) {
        extents *= extent;  // which fits: the file was checked
    }
    ensure(extents == count, ErrorCode::shape, "checkpoint: tensor ", in_quotes(tensor->name), " is ",
           shape_text(tensor->shape), ", but the configuration says ", count, " values");
    return tensor->to_floats();
}

[[nodiscard]] inline std::vector<std::int32_t> ids_of(const StoredTensor& table) {
    const bool wide = table.type_name == "I64";
    ensure((wide || table.type_name == "I32") && table.shape.size() == 2, ErrorCode::unknown_type,
           "checkpoint: tensor ", in_quotes(table.name), " holds ", table.type_name, ", ", shape_text(table.shape),
           ", not a table of I64 or I32");
    std::vector<std::int32_t> ids(table.bytes.size() / (wide ? 8 : 4));
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const std::int64_t id = wide ? load_number<std::int64_t>(table.bytes.data() + 8 * i)
                                     : load_number<std::int32_t>(table.bytes.data() + 4 * i);
        ensure(std::in_range<std::int32_t>(id), ErrorCode::range, "checkpoint: tensor ", in_quotes(table.name),
               " names an expert ", id);
        ids[i] = static_cast<std::int32_t>(id);
    }
    return ids;
}

[[nodiscard]] inline SmallTensors small_tensors(const StoredLayer& stored, const MoEConfig& config) {
    SmallTensors small;
    const std::size_t n = config.n_routed();
    const StoredTensor& router = *stored.router;
    ensure(router.from_end(0) == config.router_inputs() && router.from_end(1) == n, ErrorCode::shape,
           "checkpoint: the router ", in_quotes(router.name), " is ", shape_text(router.shape),
           ", but the configuration says ", n, " x ", config.router_inputs());
    small.router = floats_of(stored.router, checked_multiply(n, config.router_inputs()));
    small.router_bias = floats_of(stored.router_bias, n);
    small.selection_bias = floats_of(stored.selection_bias, n);
    small.per_expert_scale = floats_of(stored.per_expert_scale, n);
    small.output_bias = floats_of(stored.output_bias, config.d_model);
    small.shared_gate = floats_of(stored.shared_gate, config.d_model);
    if (stored.hash_table != nullptr) {
        small.hash_table = ids_of(*stored.hash_table);
        small.hash_columns = stored.hash_table->shape[1];
    }
    return small;
}

/// A layer of these banks; `shared` has one or none.
template <class Bank>
[[nodiscard]] auto compose(const MoEConfig& config, const SmallTensors& small, Bank bank, std::vector<Bank> shared) {
    using Shared = SharedExperts<Bank, float>;
    LayerWeights<float> weights;
    weights.router = view(small.router.data(), config.n_routed(), config.router_inputs());
    weights.router_bias = small.router_bias;
    weights.selection_bias = small.selection_bias;
    weights.per_expert_scale = small.per_expert_scale;
    if (!small.hash_table.empty()) {
        weights.hash_table =
            view(small.hash_table.data(), small.hash_table.size() / small.hash_columns, small.hash_columns);
    }
    Shared always;
    if (!shared.empty()) {
        always = config.shared_mode == SharedMode::gated
                     ? Shared(std::move(shared), stacked(small.shared_gate.data(), 1, 1, config.d_model))
                     : Shared(std::move(shared), config.shared_mode);
    }
    LayerOptions<float> options;
    options.weight_at = config.weight_at;
    options.routed_scale = config.routed_scale;
    options.output_bias = small.output_bias;
    options.null_experts.n_zero = config.n_zero_experts;
    options.null_experts.n_identity = config.n_identity_experts;
    return MoELayer<Router<float, AnyGate>, Bank, Shared>(make_router(config, weights), std::move(bank),
                                                          std::move(always), options);
}

template <class Bank, class Take>
[[nodiscard]] AnyLayer<float> compose_banks(const StoredLayer& stored, const MoEConfig& config,
                                            const SmallTensors& small, const Take& take) {
    Bank bank(config.form,
              experts_of(stored.experts, {config.n_experts, config.d_model, config.d_ff, config.form.gated()}, take));
    std::vector<Bank> shared;
    if (config.shared_d_ff > 0) {
        shared.emplace_back(
            config.form_of_shared(),
            experts_of(stored.shared, {1, config.d_model, config.shared_d_ff, config.form_of_shared().gated()}, take));
    }
    return compose(config, small, std::move(bank), std::move(shared));
}

/// Whether all experts are numbers of one of the types of WeightStack.
[[nodiscard]] inline bool holds_numbers(const StoredLayer& stored) {
    const auto all = [&]<class W>(W) { return holds<W>(stored.experts) && holds<W>(stored.shared); };
    return all(float{}) || all(bfloat16{}) || all(float16{});
}

/// The layer with the codes and scales of its blocks moved into panels; `small` must outlive it.
template <class Take>
[[nodiscard]] AnyLayer<float> packed_blocks_of(const StoredLayer& stored, const MoEConfig& config, SmallTensors& small,
                                               const Take& take, const ExecutorRef& executor, Compute compute) {
    using Bank = PackedBlocks<AnyForm>;
    const auto pack = [&](const AnyForm& form, const StoredExperts& experts, std::size_t n, std::size_t d_ff) {
        return Bank(form, experts_of(experts, {n, config.d_model, d_ff, form.gated()}, take), executor, compute);
    };
    std::vector<Bank> shared;
    if (config.shared_d_ff > 0) {
        shared.push_back(pack(config.form_of_shared(), stored.shared, 1, config.shared_d_ff));
    }
    return compose(config, small, pack(config.form, stored.experts, config.n_experts, config.d_ff), std::move(shared));
}

/// The layer packed as it is stored, where that is in blocks.
template <class = void>
[[nodiscard]] std::optional<AnyLayer<float>> packed_as_blocks(const StoredTensors& files, const StoredLayer& stored,
                                                              const MoEConfig& config, SmallTensors& small,
                                                              const ExecutorRef& executor, Compute compute) {
    if (files.shards() && !holds_numbers(stored)) {
        std::deque<std::vector<const std::byte*>> lists;
        return packed_blocks_of(stored, config, small, BlockTake{&small.biases, &lists}, executor, compute);
    }
    if (Mxfp4Take::takes(stored.experts) && config.shared_d_ff == 0) {
        const bool in_turns = stored.experts.storage.gate_up == JoinedAs::interleaved;
        std::deque<std::vector<std::byte>> blocks;
        const Mxfp4Take take{&files, in_turns ? &stored.experts.gate_up : nullptr, &small.biases, &blocks};
        return packed_blocks_of(stored, config, small, take, executor, compute);
    }
    return std::nullopt;
}

/// The layer over the memory of the files and of `small`, which must outlive it.
template <class = void>
[[nodiscard]] AnyLayer<float> layer_of(const StoredTensors& files, const StoredLayer& stored, const MoEConfig& config,
                                       SmallTensors& small) {
    const auto all = [&]<class W>(W) { return holds<W>(stored.experts) && holds<W>(stored.shared); };
    if (all(float{})) {
        return compose_banks<ExpertBank<float, AnyForm>>(stored, config, small, FloatTake<float>{});
    }
    if (all(bfloat16{})) {
        return compose_banks<ExpertBank<bfloat16, AnyForm>>(stored, config, small, FloatTake<bfloat16>{});
    }
    if (all(float16{})) {
        return compose_banks<ExpertBank<float16, AnyForm>>(stored, config, small, FloatTake<float16>{});
    }
    return compose_banks<EncodedBank<AnyForm>>(stored, config, small, EncodedTake{&files, &small.biases});
}

}  // namespace moe::inline MOE_ABI::detail
