#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <moe/instantiate.hpp>

#include "../arms/packed_bank.hpp"
#include "../shapes.hpp"
#include "../threads.hpp"

namespace compare {

/// What a call gets.
struct SpeedCall {
    moe::MatrixView<const float> x;     ///< (n_tokens, d_model)
    std::span<const std::int32_t> ids;  ///< (n_tokens)
    moe::MatrixView<float> y;           ///< (n_tokens, d_model)
};

/// Something that is timed: a layer under some gate, or a dense network.
class SpeedArm {
public:
    explicit SpeedArm(std::string name) : name_(std::move(name)) {}
    SpeedArm(const SpeedArm&) = delete;
    SpeedArm& operator=(const SpeedArm&) = delete;
    virtual ~SpeedArm() = default;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    /// `observer` sees the phases and the plan of a layer; of a dense network nothing.
    virtual void run(const SpeedCall& call, moe::Workspace& workspace, const bench::Threads& threads,
                     moe::Observer<float>* observer) const = 0;

private:
    std::string name_;
};

using SpeedBank = bench::PackedBank<moe::bfloat16>;
using SpeedLayer = moe::MoELayer<moe::Router<float, moe::Dense<>>, SpeedBank::Experts>;

class LayerArm final : public SpeedArm {
public:
    /// Views the layer.
    LayerArm(std::string name, const SpeedLayer& layer, moe::AnyGate gate)
        : SpeedArm(std::move(name)), layer_(layer.with_gate(std::move(gate))) {}

    void run(const SpeedCall& call, moe::Workspace& workspace, const bench::Threads& threads,
             moe::Observer<float>* observer) const override {
        moe::ForwardOptions<float> options;
        options.token_ids = call.ids;
        options.observer = observer;
        layer_.forward(call.x, call.y, workspace, threads, options);
    }

private:
    moe::LayerWithGate<SpeedLayer, moe::AnyGate> layer_;
};

class DenseArm final : public SpeedArm {
public:
    DenseArm(std::string name, const bench::BankSizes& sizes, const bench::Threads& threads)
        : SpeedArm(std::move(name)), bank_(sizes, moe::Compute::exact, threads), network_(bank_.experts()) {}

    void run(const SpeedCall& call, moe::Workspace& workspace, const bench::Threads& threads,
             moe::Observer<float>*) const override {
        network_.forward(call.x, call.y, workspace, threads);
    }

private:
    SpeedBank bank_;
    moe::Expert<SpeedBank::Experts> network_;
};

/// Groups of weights, see bench::WeightStream.
inline constexpr std::size_t expert_group = 0;
inline constexpr std::size_t active_group = 2;
inline constexpr std::size_t total_group = 3;

}  // namespace compare
