#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../../examples/train/pass.hpp"
#include "../../examples/train/run.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

namespace moe_test::gradients_test {

/// The whole model's gradients at sizes that the golden training does not have, against differences of its loss.
namespace {

struct Shape {
    std::ptrdiff_t d_model;
    std::ptrdiff_t d_ff;
    std::ptrdiff_t n_experts;
    std::size_t length;
    std::size_t n_sequences;
};

/// All experts take all tokens, so that no small step changes who goes where.
trainer::Run run_of(const Shape& shape) {
    trainer::Run run = trainer::default_run();
    run.config.d_model = shape.d_model;
    run.config.d_ff = shape.d_ff;
    run.config.n_layers = 2;
    run.config.n_experts = shape.n_experts;
    run.config.top_k = shape.n_experts;
    run.settings.length = shape.length;
    run.settings.batch = shape.n_sequences;
    trainer::complete(run);
    return run;
}

/// Weights large enough that every part matters.
template <class T>
void randomize(trainer::Model<T>& model) {
    std::uint64_t stream = 0;
    for (const moe::Parameter<T>& parameter : model.parameters().all()) {
        const bool norm = parameter.info().scale == 0;
        const std::uint64_t seed = moe::random_stream(5, stream++);
        for (std::size_t i = 0; i < parameter.value().size(); ++i) {
            parameter.value()[i] = static_cast<T>((norm ? 1.0 : 0.0) + 0.3 * moe::random_normal(seed, i));
        }
    }
}

/// Random tokens; every fifth has no target.
class Text {
public:
    Text(std::size_t n_sequences, std::size_t length) : n_sequences_(n_sequences) {
        for (std::size_t t = 0; t < n_sequences * length; ++t) {
            tokens_.push_back(static_cast<std::int32_t>(moe::random_bits(7, t) % 256));
            targets_.push_back(t % 5 == 0 ? trainer::no_target
                                          : static_cast<std::int32_t>(moe::random_bits(8, t) % 256));
        }
    }
    [[nodiscard]] trainer::Batch batch() const { return {tokens_, targets_, n_sequences_}; }

private:
    std::size_t n_sequences_;
    std::vector<std::int32_t> tokens_;
    std::vector<std::int32_t> targets_;
};

double loss_of(trainer::Pass<double>& pass, const Text& text) {
    pass.forward(text.batch(), moe::SerialExecutor{});
    return pass.cross_entropy(0, 1, moe::SerialExecutor{});
}

}  // namespace

TEST_CASE("gradients are those of differences of the loss", "[gradients]") {
    Eigen::setNbThreads(1);
    for (const Shape& shape : {Shape{6, 5, 3, 7, 2}, Shape{32, 3, 1, 1, 3}, Shape{64, 17, 2, 131, 1}}) {
        INFO("d_model " << shape.d_model << ", length " << shape.length);
        trainer::Model<double> model(run_of(shape).config, 3);
        randomize(model);
        trainer::Pass<double> pass(model, shape.length);
        const Text text(shape.n_sequences, shape.length);
        moe::zero_gradients(model.parameters().gradients());
        (void)loss_of(pass, text);
        pass.backward(moe::SerialExecutor{});
        for (const moe::Parameter<double>& parameter : model.parameters().all()) {
            INFO(parameter.info().name);
            const std::vector<double> before(parameter.value().begin(), parameter.value().end());
            constexpr double h = 1e-6;
            const auto moved = [&](double by) {  // along a random direction
                for (std::size_t i = 0; i < before.size(); ++i) {
                    parameter.value()[i] = before[i] + by * moe::random_normal(11, i);
                }
                return loss_of(pass, text);
            };
            double slope = 0;
            double size = 0;
            for (std::size_t i = 0; i < before.size(); ++i) {
                slope += parameter.gradient()[i] * moe::random_normal(11, i);
                size += parameter.gradient()[i] * parameter.gradient()[i];
            }
            const double difference = (moved(h) - moved(-h)) / (2 * h);
            std::copy(before.begin(), before.end(), parameter.value().begin());
            // a single expert, or a single position, leaves nothing to choose: its router, queries and keys do not
            // matter
            const bool matters = !(shape.n_experts == 1 && parameter.info().name.ends_with("mlp.gate.weight")) &&
                                 !(shape.length == 1 && (parameter.info().name.ends_with("q_proj.weight") ||
                                                         parameter.info().name.ends_with("k_proj.weight")));
            CHECK((std::sqrt(size) > 1e-3) == matters);
            CHECK(std::abs(slope - difference) <= 1e-6 * std::max(1.0, std::sqrt(size)));
        }
    }
}

TEST_CASE("odd sizes have the same bits for threads and micro-batches", "[gradients]") {
    Eigen::setNbThreads(1);
    const Shape shape{6, 5, 3, 13, 4};
    const trainer::Run run = run_of(shape);
    const Text text(shape.n_sequences, shape.length);
    const auto gradients = [&](std::size_t micro_batch, const moe::ExecutorRef& threads) {
        trainer::Model<float> model(run.config, 3);
        randomize(model);
        trainer::Settings settings = run.settings;
        settings.aux = 0;
        settings.micro_batch = micro_batch;
        trainer::Trainer<float> trainer(model, settings);
        std::vector<float> values;
        values.push_back(static_cast<float>(trainer.compute_gradients(text.batch(), threads).loss));
        for (const moe::Parameter<float>& parameter : model.parameters().all()) {
            values.insert(values.end(), parameter.gradient().begin(), parameter.gradient().end());
        }
        return values;
    };
    const moe::SerialExecutor one;
    const std::vector<float> expected = gradients(4, one);
    CHECK(std::any_of(expected.begin() + 1, expected.end(), [](float value) { return value != 0; }));
    CHECK(same_bits(gradients(4, ThreadExecutor(3)), expected));
    CHECK(same_bits(gradients(4, ReversedExecutor(2)), expected));
    CHECK(same_bits(gradients(2, one), expected));
    CHECK(same_bits(gradients(1, ThreadExecutor(2)), expected));
}

TEST_CASE("a batch that is none is an error, and so are gradients that are not finite", "[gradients]") {
    const Shape shape{6, 5, 3, 7, 2};
    const trainer::Run run = run_of(shape);
    trainer::Model<double> model(run.config, 3);
    trainer::Trainer<double> trainer(model, run.settings);
    trainer::Pass<double> pass(model, shape.length);
    const moe::SerialExecutor one;
    const Text text(shape.n_sequences, shape.length);
    CHECK_THROWS_AS(pass.forward({text.batch().tokens, text.batch().targets, 3}, one), moe::Error);
    std::vector<std::int32_t> tokens(14, 0);
    tokens[5] = 256;
    CHECK_THROWS_AS(pass.forward({tokens, text.batch().targets, 2}, one), moe::Error);
    CHECK_THROWS_AS(trainer.compute_gradients({text.batch().tokens, text.batch().targets, 1}, one), moe::Error);
    const std::vector<std::int32_t> nothing(14, trainer::no_target);
    CHECK_THROWS_AS(trainer.compute_gradients({text.batch().tokens, nothing, 2}, one), moe::Error);
    trainer::Step step = trainer.compute_gradients(text.batch(), one);
    const std::span<double> embedding = model.embedding().value();
    const std::vector<double> before(embedding.begin(), embedding.end());
    model.embedding().gradient()[0] = std::nan("");
    CHECK_THROWS_AS(trainer.update(step, one), moe::Error);
    CHECK(same_bits(embedding, before));
    CHECK(trainer.steps_done() == 0);
}

}  // namespace moe_test::gradients_test
