#include <array>
#include <barrier>
#include <cstddef>
#include <cstdio>
#include <numeric>
#include <thread>
#include <vector>

#include "layer/pass/concurrency.hpp"
#include "layer/residency_cases.hpp"
#include "moe/gating/adaptors/capacity.hpp"
#include "moe/gating/strategies/expert_choice.hpp"
#include "moe/layer/hierarchical_layer.hpp"
#include "moe/layer/neuron_layer.hpp"
#include "moe/layer/soft_moe_layer.hpp"
#include "moe/train.hpp"
#include "train/gradients.hpp"

/// What the concurrency and phase tests do, under ThreadSanitizer: compiled by clang, without OpenMP and without
/// Catch2. With an argument it races on purpose, to show that a race would be found.

namespace {

template <class Layer>
bool phases_agree(const Layer& layer) {
    moe_test::Draw draw(2);
    const moe_test::Batch<float> batch(draw, 60, layer.d_model());
    moe::Workspace workspace;
    const auto expected =
        moe_test::run_tokens(layer, batch, moe_test::first_tokens(60), false, workspace, moe::SerialExecutor{});
    std::vector<float> y(expected.size());
    auto pass = layer.prepare(moe::view(batch.x.data(), 60, layer.d_model()), moe::view(y.data(), 60, layer.d_model()),
                              workspace, 4, {});
    moe_test::drive(pass, 4);
    return moe_test::same_bits(y, expected);
}

/// Whether a pass whose experts are brought, in several waves, gives what it gives without.
template <class Layer>
bool waves_agree(const Layer& layer, std::size_t n_experts) {
    moe_test::Draw draw(2);
    const moe_test::Batch<float> batch(draw, 60, layer.d_model());
    moe::Workspace workspace;
    std::vector<float> expected(batch.x.size());
    const auto x = moe::view(batch.x.data(), 60, layer.d_model());
    layer.forward(x, moe::view(expected.data(), 60, layer.d_model()), workspace);
    bool agree = true;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        moe_test::RecordedResidency residency(n_experts, seed, {1, 2});
        std::vector<float> y(expected.size());
        layer.forward(x, moe::view(y.data(), 60, layer.d_model()), workspace, moe_test::ThreadExecutor(4),
                      {.residency = &residency});
        agree = agree && moe_test::same_bits(y, expected) && residency.n_wants == 1;
    }
    return agree;
}

/// The layers that are no MoELayer, each shared by some threads; large enough to share out every region.
std::size_t differing_outputs_of_others(const moe_test::LayerCase<float>& layer_case) {
    const std::size_t d = layer_case.shape().d_model;
    const moe::TokenChoice<moe::Softmax> gate{.top_k = 2, .normalize = true};
    moe_test::Draw draw(4);
    const std::vector<float> weights = moe_test::random_elements<float>(draw, 1600 * d, 1);
    const auto rows = [&](std::size_t n) { return moe::view(weights.data(), n, d); };
    const moe::SoftMoELayer soft{rows(300), layer_case.bank()};
    const moe::NeuronLayer neurons{moe::ProductKeyRouter{rows(800), 10}, moe::ProductKeys{5}, rows(1600), rows(1600)};
    const moe::HierarchicalLayer hierarchical{moe::Router{rows(2), gate},
                                              std::vector{layer_case.layer(gate), layer_case.layer(gate)}};
    return moe_test::differing_outputs(soft, 4) + moe_test::differing_outputs(neurons, 4) +
           moe_test::differing_outputs(hierarchical, 4);
}

/// Gates for whole batches, one of which asks a gate for tokens.
std::size_t differing_outputs_of_batch_gates(const moe_test::LayerCase<float>& layer_case) {
    const moe::Capacity<moe::TokenChoice<>> capacity{.gate = {.top_k = 2}, .order = moe::CapacityOrder::random};
    return moe_test::differing_outputs(layer_case.layer(moe::AnyGate(moe::ExpertChoice<>{.capacity_factor = 2})), 4) +
           moe_test::differing_outputs(layer_case.layer(moe::AnyGate(capacity)), 4);
}

/// 8 threads that train on one layer, each with a tape and gradients of its own, of which every second has two workers.
std::size_t differing_gradients(const moe_test::LayerCase<float>& layer_case) {
    constexpr std::size_t n_threads = 8;
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true});
    moe_test::Draw draw(5);
    const moe_test::Batch<float> batch(draw, 60, layer.d_model());
    moe_test::Gradients<float> expected(layer, 60);
    moe_test::run_backward(layer, batch.x, batch.y, expected);
    std::array<std::size_t, n_threads> differ{};
    std::barrier start(static_cast<std::ptrdiff_t>(n_threads));
    const auto work = [&](std::size_t thread) {
        start.arrive_and_wait();
        for (const moe::TapeKeeps keeps : {moe::TapeKeeps::products, moe::TapeKeeps::routing}) {
            moe_test::Gradients<float> g(layer, 60);
            const moe_test::PassOptions<float> options{.keeps = keeps};
            if (thread % 2 == 0) {
                moe_test::run_backward(layer, batch.x, batch.y, g, options);
            } else {
                moe_test::run_backward(layer, batch.x, batch.y, g, options, moe_test::ThreadExecutor(2));
            }
            differ[thread] += moe_test::same_bits(g.all(), expected.all()) ? 0U : 1U;
        }
    };
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < n_threads; ++i) {
        threads.emplace_back(work, i);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    moe_test::Gradients<float> alone(layer, 60);
    moe_test::run_backward(layer, batch.x, batch.y, alone, {}, moe_test::ThreadExecutor(4));
    return std::accumulate(differ.begin(), differ.end(), std::size_t{0}) +
           (moe_test::same_bits(alone.all(), expected.all()) ? 0U : 1U);
}

template <class Layer>
int race_on_purpose(const Layer& layer) {
    moe_test::Draw draw(2);
    const moe_test::Batch<float> batch(draw, 20, layer.d_model());
    std::vector<float> y(batch.x.size());
    const auto call = [&] {
        moe::Workspace workspace;
        for (int i = 0; i < 100; ++i) {  // a single call may end before the other thread begins: then nothing is found
            layer.forward(moe::view(batch.x.data(), 20, layer.d_model()), moe::view(y.data(), 20, layer.d_model()),
                          workspace);
        }
    };
    std::thread other(call);
    call();  // the same y
    other.join();
    return 0;
}

}  // namespace

int main(int argc, char**) {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 3);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true});
    if (argc > 1) {
        return race_on_purpose(layer);
    }
    const std::size_t differing = moe_test::differing_outputs(layer, 8) + differing_outputs_of_others(layer_case) +
                                  differing_outputs_of_batch_gates(layer_case);
    const std::size_t gradients = differing_gradients(layer_case);
    const bool phases = phases_agree(layer) && waves_agree(layer, layer_case.shape().n_experts);
    std::printf("%zu outputs and %zu gradients differ, phases driven by the host and waves %s\n", differing, gradients,
                phases ? "agree" : "differ");
    return differing == 0 && gradients == 0 && phases ? 0 : 1;
}
