#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../../examples/train/trainer.hpp"
#include "moe/io.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

/// The trainings in tests/golden/training, by Hugging Face transformers and PyTorch in float64.
namespace moe_test::trajectory {

constexpr std::size_t n_steps = 60;
constexpr std::size_t n_sequences = 4;
constexpr std::size_t length = 32;
constexpr std::size_t n_layers = 2;
constexpr std::size_t n_experts = 4;

inline const generate::Config config{.d_model = 32,
                                     .d_ff = 48,
                                     .n_layers = n_layers,
                                     .n_heads = 2,
                                     .n_kv_heads = 1,
                                     .head_dim = 16,
                                     .n_experts = n_experts,
                                     .top_k = 2,
                                     .vocab_size = 256,
                                     .max_positions = length,
                                     .norm_eps = 1e-5,
                                     .rope_theta = 1e4,
                                     .rounded_frequencies = false};

inline trainer::Settings settings() {
    return {.length = length,
            .batch = n_sequences,
            .schedule = {.rate = 3e-3, .warm_up = 10, .n_steps = n_steps},
            .balance = trainer::Balance::pooled,
            .aux = 0.02};
}

inline moe::SafetensorsFile golden(const char* name) {
    return moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR "/golden/training/") + name + ".safetensors");
}

template <class T>
void load_start(trainer::Model<T>& model) {
    Eigen::setNbThreads(1);  // its threads would come on top of those that call it
    const moe::SafetensorsFile start = golden("start");
    for (const moe::Parameter<T>& parameter : model.parameters().all()) {
        const std::vector<double> values = start.at(parameter.info().name).to_double_vector();
        REQUIRE(values.size() == parameter.value().size());
        std::copy(values.begin(), values.end(), parameter.value().begin());
    }
}

/// The batches of the golden training, with what follows each token within its sequence.
class Batches {
public:
    Batches() {
        const moe::SafetensorsFile start = golden("start");
        tokens_ = start.at("batches").to_vector<std::int32_t>();
        targets_ = tokens_;
        REQUIRE(tokens_.size() == n_steps * n_sequences * length);
        for (std::size_t t = 0; t < tokens_.size(); ++t) {
            targets_[t] = (t + 1) % length == 0 ? trainer::no_target : tokens_[t + 1];
        }
    }
    [[nodiscard]] trainer::Batch operator[](std::size_t step) const {
        constexpr std::size_t size = n_sequences * length;
        return {std::span(tokens_).subspan(step * size, size), std::span(targets_).subspan(step * size, size),
                n_sequences};
    }

private:
    std::vector<std::int32_t> tokens_;
    std::vector<std::int32_t> targets_;
};

/// NaN, which no `<=` lets pass, if one is.
inline double relative_error(double value, double wanted) { return std::abs(value - wanted) / std::abs(wanted); }

inline std::vector<std::int32_t> loads_of(const trainer::Step& step) {
    std::vector<std::int32_t> loads;
    for (const moe::RoutingCounts& counts : step.counts) {
        loads.insert(loads.end(), counts.counts.begin(), counts.counts.end());
    }
    return loads;
}

/// Trains all steps and holds each of them against those stored in `wanted`, likewise the first gradients and the last
/// values of `parameters`, which are what learns.
inline void check_training(trainer::Trainer<double>& run, const moe::Parameters<double>& parameters,
                           const moe::SafetensorsFile& wanted) {
    const std::vector<double> steps = wanted.at("steps").to_vector<double>();
    const std::vector<std::int32_t> loads = wanted.at("loads").to_vector<std::int32_t>();
    REQUIRE(steps.size() == n_steps * 4);
    REQUIRE(loads.size() == n_steps * n_layers * n_experts);
    const Batches batches;
    const moe::SerialExecutor executor;
    for (std::size_t i = 0; i < n_steps; ++i) {
        INFO("step " << i);
        trainer::Step step = run.compute_gradients(batches[i], executor);
        for (const moe::Parameter<double>& parameter : parameters.all()) {
            if (i == 0) {
                INFO(parameter.info().name);
                CHECK(nmse(parameter.gradient(), wanted.at("grad0." + parameter.info().name).to_vector<double>()) <=
                      1e-24);
            }
        }
        run.update(step, executor);
        CHECK(relative_error(step.loss, steps[4 * i]) <= 1e-9);
        CHECK(relative_error(step.aux, steps[4 * i + 1]) <= 1e-9);
        CHECK(relative_error(step.norm, steps[4 * i + 2]) <= 1e-9);
        CHECK(relative_error(step.rate, steps[4 * i + 3]) <= 1e-12);
        const auto first = loads.begin() + static_cast<std::ptrdiff_t>(i * n_layers * n_experts);
        CHECK(loads_of(step) == std::vector<std::int32_t>(first, first + n_layers * n_experts));
    }
    for (const moe::Parameter<double>& parameter : parameters.all()) {
        INFO(parameter.info().name);
        CHECK(difference(parameter.value(), wanted.at("final." + parameter.info().name).to_vector<double>(), 1e-8) ==
              "");
    }
}

/// All values and moments behind each other.
template <class T>
std::vector<T> state_of(const moe::Parameters<T>& parameters) {
    std::vector<T> state;
    for (const moe::Parameter<T>& parameter : parameters.all()) {
        for (const std::span<const T> part :
             {std::span<const T>(parameter.value()), std::span<const T>(parameter.state().mean),
              std::span<const T>(parameter.state().square)}) {
            state.insert(state.end(), part.begin(), part.end());
        }
    }
    return state;
}

/// What `state` is after training, and what each step saw.
template <class T>
struct Trained {
    std::vector<T> state;
    std::vector<double> losses;
};

template <class T, class E>
Trained<T> train(trainer::Trainer<T>& run, const moe::Parameters<T>& parameters, std::size_t steps, const E& executor) {
    const Batches batches;
    Trained<T> trained;
    for (std::size_t i = 0; i < steps; ++i) {
        trained.losses.push_back(run.step(batches[i], executor).loss);
    }
    trained.state = state_of(parameters);
    return trained;
}

}  // namespace moe_test::trajectory
