#include "collapse.hpp"

#include <algorithm>
#include <deque>
#include <iterator>
#include <utility>

#include <moe/core/random.hpp>

#include "collapse_task.hpp"
#include "collapse_training.hpp"

namespace compare {

namespace {

using Bias = std::span<const float>;
using TopK = moe::TokenChoice<moe::Sigmoid>;

constexpr std::size_t most_rows = 60;  // of a run, beside that of its end
constexpr double balance = 0.03;       // coefficients of losses
constexpr double z = 0.01;
constexpr double noisy = 0.1;
constexpr double sign_rate = 0.03;  // of the bias, which is added to logits

Remedy::MakeGate always(const moe::AnyGate& gate) {
    return [gate](std::uint64_t, Bias) { return gate; };
}

void add_balance_loss(moe::Tape<float>& tape, moe::Workspace& workspace, std::uint64_t) {
    (void)moe::add_load_balance(tape, {.coefficient = balance, .top_k = 1}, workspace);
}

void add_z_loss(moe::Tape<float>& tape, moe::Workspace&, std::uint64_t) {
    (void)moe::add_z_loss(tape, {.coefficient = z});
}

Remedy sign_bias() {
    const auto gate = [](std::uint64_t, Bias bias) {
        return moe::AnyGate(TopK{.selection_bias = bias, .select_on = moe::SelectOn::logits});
    };
    return {.name = "sign bias", .gate = gate, .sign_rate = sign_rate};
}

Remedy noisy_top_2(std::uint64_t seed) {
    const auto at = [seed](std::uint64_t step) { return moe::NoisyTopK{.top_k = 2, .seed = seed, .step = step}; };
    const auto losses = [at](moe::Tape<float>& tape, moe::Workspace& workspace, std::uint64_t step) {
        (void)moe::add_importance(tape, {.coefficient = noisy}, workspace);
        (void)moe::add_load(tape, at(step), {.coefficient = noisy}, workspace);
    };
    return {.name = "noisy top-2",
            .gate = [at](std::uint64_t step, Bias) { return moe::AnyGate(at(step)); },
            .losses = losses,
            .logits_per_expert = 2};
}

std::vector<Remedy> remedies(std::uint64_t seed) {
    const moe::AnyGate top_1 = TopK{};
    const moe::AnyGate weight_1 = TopK{.normalize = true};
    return {{.name = "without balancing", .gate = always(top_1)},
            {.name = "z-loss", .gate = always(top_1), .losses = add_z_loss},
            {.name = "balance loss", .gate = always(top_1), .losses = add_balance_loss},
            sign_bias(),
            noisy_top_2(seed),
            {.name = "expert choice", .gate = always(moe::ExpertChoice<moe::Sigmoid>{.capacity_factor = 2})},
            {.name = "balanced but dead", .gate = always(weight_1), .losses = add_balance_loss},
            {.name = "dense", .gate = always(weight_1), .n_experts = 1}};
}

}  // namespace

std::vector<CollapseRow> collapse(std::uint64_t seed, std::size_t steps) {
    const ClusterTask task(moe::random_stream(seed, 0x636f6c));
    std::deque<CollapseTraining> trainings;
    for (Remedy& remedy : remedies(moe::random_stream(seed, 0x636f6d))) {
        trainings.emplace_back(std::move(remedy), moe::random_stream(seed, 0x636f6e));
    }
    const std::size_t stride = std::max<std::size_t>(1, (steps + most_rows - 1) / most_rows);
    std::vector<std::vector<CollapseRow>> runs(trainings.size());
    for (std::size_t step = 0; step <= steps; ++step) {
        const ClusterTask::Batch batch = task.batch(step);
        for (std::size_t i = 0; i < trainings.size(); ++i) {
            if (step % stride == 0 || step == steps) {
                runs[i].push_back(trainings[i].measure(batch));
            }
            if (step < steps) {
                trainings[i].train(batch);
            }
        }
    }
    std::vector<CollapseRow> rows;
    for (std::vector<CollapseRow>& run : runs) {
        std::move(run.begin(), run.end(), std::back_inserter(rows));
    }
    return rows;
}

}  // namespace compare
