#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "examples/trajectory.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

namespace moe_test::trajectory_test {

/// A whole training held against one by Hugging Face transformers and PyTorch in float64: tests/golden/training.
namespace {

using trajectory::Batches;
using trajectory::config;
using trajectory::golden;
using trajectory::load_start;
using trajectory::n_steps;
using trajectory::settings;
using trajectory::Trained;

template <class T, class E>
Trained<T> train(const trainer::Settings& settings, std::size_t steps, const E& executor) {
    trainer::Model<T> model(config, 1);
    load_start(model);
    trainer::Trainer<T> run(model, settings);
    return trajectory::train(run, model.parameters(), steps, executor);
}

}  // namespace

TEST_CASE("a training in double is that of PyTorch, step by step", "[trajectory]") {
    trainer::Model<double> model(config, 1);
    load_start(model);
    trainer::Trainer<double> run(model, settings());
    trajectory::check_training(run, model.parameters(), golden("trajectory_full"));
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
