#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <moe/core/random.hpp>

#include "../../../examples/train/trainer.hpp"
#include "gated_block.hpp"

namespace compare {

/// How a model routes while it is trained, and how when it reads held-out text.
class TrainedRouting : public trainer::Routing<float> {
public:
    /// The blocks of a layer, `learning` or reading.
    [[nodiscard]] virtual trainer::Blocks<float> blocks(const trainer::Model<float>& model, bool learning) = 0;
    [[nodiscard]] trainer::Blocks<float> make_blocks(const trainer::Model<float>& model) final {
        return blocks(model, true);
    }
    /// Parameters beside those of the model.
    [[nodiscard]] virtual std::vector<moe::ParameterInfo> more_parameters(const trainer::Config& /*config*/) const {
        return {};
    }
    /// Rows of an expert that a token costs where no plan tells it.
    [[nodiscard]] virtual double rows_per_token() const { return 0; }
};

/// What a gate may depend on.
struct GateState {
    std::size_t layer = 0;
    std::uint64_t step = 0;
    std::uint64_t seed = 0;  ///< another in each layer
    double progress = 0;     ///< 0 in the first step, 1 at the end
    bool learning = true;
};

/// Layers under a gate of any kind, with the losses that trainer::Settings name.
class GateRouting : public TrainedRouting {
public:
    using MakeGate = std::function<moe::AnyGate(const GateState&)>;

    explicit GateRouting(MakeGate gate, std::uint64_t seed = 0, std::uint64_t n_steps = 1)
        : gate_(std::move(gate)), seed_(seed), n_steps_(n_steps) {}

    [[nodiscard]] trainer::Blocks<float> blocks(const trainer::Model<float>& model, bool learning) override {
        trainer::Blocks<float> made;
        for (std::size_t i = 0; i < model.layers().size(); ++i) {
            made.push_back(
                std::make_unique<ModelBlock>(model.layers()[i].moe, model.layers()[i].gradients, gate_of(i, learning)));
        }
        return made;
    }
    void begin_step(std::uint64_t step) override { step_ = step; }
    /// Those without coefficients are left out: not every gate has logits.
    void add_losses(const trainer::RoutedBatch<float>& batch, trainer::Step& step) override {
        if (batch.settings.aux != 0 || batch.settings.z != 0) {
            trainer::Routing<float>::add_losses(batch, step);
        }
    }

protected:
    /// What a block of this layer asks for its gate.
    [[nodiscard]] std::function<moe::AnyGate()> gate_of(std::size_t layer, bool learning) {
        return [this, layer, learning] {
            const double progress = static_cast<double>(step_) / static_cast<double>(n_steps_);
            return gate_({layer, step_, moe::random_stream(seed_, layer), progress, learning});
        };
    }

private:
    MakeGate gate_;
    std::uint64_t seed_;
    std::uint64_t n_steps_;
    std::uint64_t step_ = 0;
};

}  // namespace compare
