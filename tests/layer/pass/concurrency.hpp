#pragma once

#include <barrier>
#include <cstddef>
#include <thread>
#include <vector>

#include "layer/batch_runner.hpp"
#include "support/executors.hpp"

/// Several threads on one const layer. Without Catch2, so that it also compiles into a program for ThreadSanitizer.
namespace moe_test {

inline LayerShape shared_layer_shape() {
    LayerShape shape;
    shape.n_experts = 6;
    shape.d_model = 45;
    shape.d_ff = 38;
    shape.biases = true;
    shape.shared_widths = {20};
    shape.n_identity = 1;
    return shape;
}

/// `n_threads` threads that each call `forward` on `layer` several times, all at once and each with its own workspace.
/// Returns how many of the outputs did not have the bits of a single call.
template <class Layer>
std::size_t differing_outputs(const Layer& layer, std::size_t n_threads) {
    using T = typename Layer::value_type;
    constexpr std::size_t n_calls = 4;
    Draw draw(1);
    const Batch<T> batch(draw, 60, layer.d_model());
    const std::vector<std::size_t> all = first_tokens(batch.n_tokens());
    moe::Workspace alone;
    const std::vector<T> expected = run_tokens(layer, batch, all, false, alone, moe::SerialExecutor{});
    std::vector<std::vector<T>> outputs(n_threads * n_calls);
    std::barrier start(static_cast<std::ptrdiff_t>(n_threads));
    const auto work = [&](std::size_t thread) {
        moe::Workspace workspace;
        start.arrive_and_wait();
        for (std::size_t call = 0; call < n_calls; ++call) {
            std::vector<T>& output = outputs[thread * n_calls + call];
            output = call % 2 == 0 ? run_tokens(layer, batch, all, false, workspace, moe::SerialExecutor{})
                                   : run_tokens(layer, batch, all, false, workspace, ThreadExecutor(2));
        }
    };
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < n_threads; ++i) {
        threads.emplace_back(work, i);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    std::size_t differing = 0;
    for (const std::vector<T>& output : outputs) {
        differing += same_bits(output, expected) ? 0U : 1U;
    }
    return differing;
}

/// Drives a prepared pass from `nth` threads of its own, with a barrier after each phase.
template <class Pass>
void drive(Pass& pass, std::size_t nth) {
    std::barrier phase_done(static_cast<std::ptrdiff_t>(nth));
    std::vector<std::thread> threads;
    for (std::size_t ith = 0; ith < nth; ++ith) {
        threads.emplace_back([&, ith] {
            for (int phase = 0; phase < moe::n_phases; ++phase) {
                pass.run_phase(static_cast<moe::Phase>(phase), ith, nth);
                phase_done.arrive_and_wait();
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace moe_test
