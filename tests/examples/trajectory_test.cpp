#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../../examples/train/trainer.hpp"
#include "moe/io.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

namespace moe_test::trajectory_test {

/// A whole training held against one by Hugging Face transformers and PyTorch in float64: tests/golden/training.
namespace {

constexpr std::size_t n_steps = 60;
constexpr std::size_t n_sequences = 4;
constexpr std::size_t length = 32;
constexpr std::size_t n_layers = 2;
constexpr std::size_t n_experts = 4;

const generate::Config config{.d_model = 32,
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

trainer::Settings settings() {
    return {.length = length,
            .batch = n_sequences,
            .schedule = {.rate = 3e-3, .warm_up = 10, .n_steps = n_steps},
            .balance = trainer::Balance::pooled,
            .aux = 0.02};
}

moe::SafetensorsFile golden(const char* name) {
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

/// All weights and moments, and what each step saw.
template <class T>
struct Trained {
    std::vector<T> state;
    std::vector<double> losses;
};

template <class T>
void add_state(const trainer::Model<T>& model, std::vector<T>& state) {
    for (const moe::Parameter<T>& parameter : model.parameters().all()) {
        for (const std::span<const T> part :
             {std::span<const T>(parameter.value()), std::span<const T>(parameter.state().mean),
              std::span<const T>(parameter.state().square)}) {
            state.insert(state.end(), part.begin(), part.end());
        }
    }
}

template <class T, class E>
Trained<T> train(const trainer::Settings& settings, std::size_t steps, const E& executor) {
    trainer::Model<T> model(config, 1);
    load_start(model);
    trainer::Trainer<T> run(model, settings);
    const Batches batches;
    Trained<T> trained;
    for (std::size_t i = 0; i < steps; ++i) {
        trained.losses.push_back(run.step(batches[i], executor).loss);
    }
    add_state(model, trained.state);
    return trained;
}

/// NaN, which no `<=` lets pass, if one is.
double relative_error(double value, double wanted) { return std::abs(value - wanted) / std::abs(wanted); }

std::vector<std::int32_t> loads_of(const trainer::Step& step) {
    std::vector<std::int32_t> loads;
    for (const moe::RoutingCounts& counts : step.counts) {
        loads.insert(loads.end(), counts.counts.begin(), counts.counts.end());
    }
    return loads;
}

}  // namespace

TEST_CASE("a training in double is that of PyTorch, step by step", "[trajectory]") {
    const moe::SafetensorsFile wanted = golden("trajectory_full");
    const std::vector<double> steps = wanted.at("steps").to_vector<double>();
    const std::vector<std::int32_t> loads = wanted.at("loads").to_vector<std::int32_t>();
    REQUIRE(steps.size() == n_steps * 4);
    REQUIRE(loads.size() == n_steps * n_layers * n_experts);
    trainer::Model<double> model(config, 1);
    load_start(model);
    trainer::Trainer<double> run(model, settings());
    const Batches batches;
    const moe::SerialExecutor executor;
    for (std::size_t i = 0; i < n_steps; ++i) {
        INFO("step " << i);
        trainer::Step step = run.compute_gradients(batches[i], executor);
        for (const moe::Parameter<double>& parameter : model.parameters().all()) {
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
    for (const moe::Parameter<double>& parameter : model.parameters().all()) {
        INFO(parameter.info().name);
        CHECK(difference(parameter.value(), wanted.at("final." + parameter.info().name).to_vector<double>(), 1e-8) ==
              "");
    }
}

TEST_CASE("a training in float stays close to that in double", "[trajectory]") {
    const moe::SafetensorsFile wanted = golden("trajectory_full");
    const std::vector<double> steps = wanted.at("steps").to_vector<double>();
    const Trained<float> trained = train<float>(settings(), n_steps, moe::SerialExecutor{});
    for (std::size_t i = 0; i < n_steps; ++i) {
        INFO("step " << i);
        CHECK(std::abs(trained.losses[i] - steps[4 * i]) <= 1e-3);
    }
}

TEST_CASE("a training has the same bits for any number of threads", "[trajectory]") {
    const Trained<float> expected = train<float>(settings(), 20, moe::SerialExecutor{});
    for (const std::size_t n_threads : {1U, 2U, 3U}) {
        const Trained<float> trained = train<float>(settings(), 20, ThreadExecutor(n_threads));
        CHECK(same_bits(trained.state, expected.state));
        CHECK(same_bits(trained.losses, expected.losses));
    }
}

TEST_CASE("micro-batches have the bits of the batch where the loss is one of single tokens", "[trajectory]") {
    trainer::Settings of_tokens = settings();
    of_tokens.aux = 0;
    of_tokens.z = 1e-3;
    const Trained<float> expected = train<float>(of_tokens, 20, moe::SerialExecutor{});
    for (const std::size_t micro_batch : {4U, 2U, 1U}) {
        of_tokens.micro_batch = micro_batch;
        const Trained<float> trained = train<float>(of_tokens, 20, moe::SerialExecutor{});
        CHECK(same_bits(trained.state, expected.state));
        CHECK(same_bits(trained.losses, expected.losses));
    }
    of_tokens.micro_batch = 0;
    of_tokens.z = 0;
    CHECK_FALSE(same_bits(train<float>(of_tokens, 20, moe::SerialExecutor{}).state, expected.state));
    of_tokens.micro_batch = 3;
    trainer::Model<float> model(config, 1);
    CHECK_THROWS_AS(trainer::Trainer<float>(model, of_tokens), moe::Error);
}

TEST_CASE("micro-batches have the gradients of the batch with a loss of its balance", "[trajectory]") {
    trainer::Settings whole = settings();
    whole.balance = trainer::Balance::by_layer;
    whole.aux = 1;
    const Batches batches;
    const auto gradients = [&](std::size_t micro_batch) {
        trainer::Model<double> model(config, 1);
        load_start(model);
        trainer::Settings cut = whole;
        cut.micro_batch = micro_batch;
        trainer::Trainer<double> run(model, cut);
        const trainer::Step step = run.compute_gradients(batches[0], moe::SerialExecutor{});
        std::vector<double> values{step.loss, step.aux};
        for (const moe::Parameter<double>& parameter : model.parameters().all()) {
            values.insert(values.end(), parameter.gradient().begin(), parameter.gradient().end());
        }
        return values;
    };
    const std::vector<double> expected = gradients(4);
    for (const std::size_t micro_batch : {2U, 1U}) {
        CHECK(difference(gradients(micro_batch), expected, 1e-12) == "");
    }
    whole.balance = trainer::Balance::pooled;  // each micro-batch has counts of its own
    CHECK(difference(gradients(1), gradients(4), 1e-6) != "");
}

}  // namespace moe_test::trajectory_test
