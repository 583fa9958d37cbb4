#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "trainer.hpp"

namespace trainer {

/// How a model is fine-tuned with LoRA.
struct LoraSettings {
    std::size_t rank = 8;
    double alpha = 16;                          ///< what an adapter adds is scaled by alpha / rank
    moe::Format base = moe::Format::as_stored;  ///< of the frozen experts; as_stored: views of the model
    bool router = false;                        ///< whether the routers learn, too
    bool through_router = true;  ///< whether gradients reach x through the routers, be they frozen or not
    std::uint64_t seed = 1;      ///< of the first A
};

template <class T>
class FrozenExperts;

/// Fine-tuning with LoRA (Hu et al. 2021, 2106.09685): the model stays as it is, and each of its expert tensors has an
/// adapter that learns, W + alpha / rank B A. Tensors are those of Hugging Face transformers, so that gate and up,
/// which are one, have one A. The parameters are called as the tensor, with .lora_a (n_experts, rank, inputs) and
/// .lora_b (n_experts, outputs, rank) behind. A begins as PEFT's does in variance, normal; B is 0: the first step is
/// that of the model as its base keeps it. Gradients of an A that gate and up share depend on micro-batches by
/// rounding.
template <class T>
class LoraRouting final : public Routing<T> {
public:
    /// The model outlives it and its blocks. Throws moe::Error(range): a rank of 0, an alpha that is not finite, a
    /// format that T has not.
    LoraRouting(const Model<T>& model, const LoraSettings& settings);
    ~LoraRouting() override;

    /// Of the model it was made of. It outlives them; all of them share the experts.
    [[nodiscard]] Blocks<T> make_blocks(const Model<T>& model) override;
    [[nodiscard]] moe::Parameters<T>& parameters(Model<T>& /*model*/) override { return parameters_; }
    [[nodiscard]] Learns learns() const override { return Learns::blocks; }

    [[nodiscard]] const moe::Parameters<T>& parameters() const noexcept { return parameters_; }
    [[nodiscard]] const LoraSettings& settings() const noexcept { return settings_; }
    [[nodiscard]] double scale() const noexcept { return settings_.alpha / static_cast<double>(settings_.rank); }

    /// The adapters of one layer. That of gate and up is of one matrix of 2 d_ff outputs, gate first.
    [[nodiscard]] moe::LoraPair<T> gate_up(std::size_t layer) const {
        return {layers_[layer].gate_up_a.stack(), layers_[layer].gate_up_b.stack()};
    }
    [[nodiscard]] moe::LoraPair<T> down(std::size_t layer) const {
        return {layers_[layer].down_a.stack(), layers_[layer].down_b.stack()};
    }

    /// Makes `model`, of the sizes of its own, what that is with the adapters.
    void merge_into(Model<T>& model, const moe::ExecutorRef& threads) const;

private:
    /// What one layer is made of.
    struct Adapted {
        moe::Parameter<T> gate_up_a;
        moe::Parameter<T> gate_up_b;
        moe::Parameter<T> down_a;
        moe::Parameter<T> down_b;
        moe::Parameter<T> router;  ///< the model's, or where it learns a copy
        std::unique_ptr<FrozenExperts<T>> experts;
    };

    [[nodiscard]] std::unique_ptr<Block<T>> make_block(const Layer<T>& layer, const Adapted& adapted) const;

    LoraSettings settings_;
    moe::Parameters<T> parameters_;
    std::vector<Adapted> layers_;
};

}  // namespace trainer
