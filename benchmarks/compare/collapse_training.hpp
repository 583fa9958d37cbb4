#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <moe/instantiate.hpp>
#include <moe/train.hpp>

#include "collapse_task.hpp"
#include "report.hpp"

namespace compare {

/// How a training is kept from collapsing, or not.
struct Remedy {
    /// Of a step, with the biases (n_experts) of the balancer.
    using MakeGate = std::function<moe::AnyGate(std::uint64_t step, std::span<const float> bias)>;
    /// Adds losses of the routing to the tape of a step.
    using AddLosses = std::function<void(moe::Tape<float>& tape, moe::Workspace& workspace, std::uint64_t step)>;

    std::string name;
    MakeGate gate;
    AddLosses losses{};    ///< empty: none
    double sign_rate = 0;  ///< of a SignBalancer; 0: its biases stay 0
    std::size_t n_experts = ClusterTask::n_clusters;
    std::size_t logits_per_expert = 1;
};

/// A layer that is trained on a ClusterTask by AdamW, from a router that favours expert 0. The first weights are a
/// function of the seed: the same for all remedies with as many experts and logits.
class CollapseTraining {
public:
    CollapseTraining(Remedy remedy, std::uint64_t seed);

    /// What the next step would see of `batch`, its noise included. Changes nothing that is trained.
    [[nodiscard]] CollapseRow measure(const ClusterTask::Batch& batch);

    void train(const ClusterTask::Batch& batch);

private:
    using Layer = moe::MoELayer<moe::Router<float, moe::AnyGate>, moe::SwiGLU<float>>;

    [[nodiscard]] Layer layer() const;
    double run_forward(const Layer& layer, const ClusterTask::Batch& batch);
    void run_backward(const Layer& layer);

    Remedy remedy_;
    moe::Parameters<float> parameters_;
    moe::SignBalancer balancer_;
    moe::RoutingCounts counts_;
    moe::Tape<float> tape_;
    moe::Workspace workspace_;
    std::vector<float> y_;
    std::vector<float> d_y_;
    std::uint64_t steps_done_ = 0;
};

}  // namespace compare
