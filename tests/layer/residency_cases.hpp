#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/layer/parts/residency.hpp"
#include "support/executors.hpp"

namespace moe_test {

/// Says of each expert what a draw decides, and writes down what it was told.
class RecordedResidency : public moe::Residency {
public:
    /// Whether an expert is there and whether it begins a wave: each with that chance of four.
    struct Chances {
        std::size_t there = 2;
        std::size_t wave = 1;
    };

    RecordedResidency(std::size_t n_experts, std::uint64_t seed, Chances chances)
        : asked(n_experts), brought(n_experts), draw_(seed), chances_(chances) {}

    void want(std::span<moe::WantedExpert> experts) override {
        ++n_wants;
        for (moe::WantedExpert& expert : experts) {
            expert.there = draw_.size(1, 4) <= chances_.there;
            expert.begins_wave = draw_.size(1, 4) <= chances_.wave;
            ids.push_back(expert.expert);
            n_missing += expert.there ? 0U : 1U;
            there.push_back(expert.there);
        }
    }
    void ask(moe::ExpertId expert) override { ++asked.at(static_cast<std::size_t>(expert)); }
    void bring(moe::ExpertId expert) override { ++brought.at(static_cast<std::size_t>(expert)); }

    /// Whether it was told of the experts that have tokens in `plan`, and of those that are missing once.
    template <class T>
    [[nodiscard]] bool heard_once(const moe::PlanView<T>& plan) const {
        std::vector<moe::ExpertId> expected;
        for (std::size_t e = 0; e < asked.size(); ++e) {
            if (plan.expert_offsets[e] < plan.expert_offsets[e + 1]) {
                expected.push_back(static_cast<moe::ExpertId>(e));
            }
        }
        bool right = ids == expected && n_wants == (expected.empty() ? 0U : 1U);
        std::vector<std::size_t> calls(asked.size());
        for (std::size_t i = 0; i < ids.size(); ++i) {
            calls[static_cast<std::size_t>(ids[i])] = there[i] ? 0 : 1;
        }
        for (std::size_t e = 0; e < asked.size(); ++e) {
            right = right && asked[e] == calls[e] && brought[e] == calls[e];
        }
        return right;
    }

    std::size_t n_wants = 0;
    std::size_t n_missing = 0;
    std::vector<moe::ExpertId> ids;
    std::vector<bool> there;
    std::vector<std::atomic<std::size_t>> asked;
    std::vector<std::atomic<std::size_t>> brought;

private:
    Draw draw_;
    Chances chances_;
};

/// Runs tests with executors of each kind.
inline void with_executor(std::size_t kind, const std::function<void(const moe::ExecutorRef&)>& run) {
    switch (kind % 4) {
        case 0: return run(moe::ExecutorRef(moe::SerialExecutor{}));
        case 1: return run(moe::ExecutorRef(ThreadExecutor(2 + kind % 3)));
        case 2: return run(moe::ExecutorRef(ThreadExecutor(4, 3)));
        default: return run(moe::ExecutorRef(ReversedExecutor(3)));
    }
}

}  // namespace moe_test
