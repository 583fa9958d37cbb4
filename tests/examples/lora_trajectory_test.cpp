#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "../../examples/train/lora.hpp"
#include "examples/trajectory.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::lora_trajectory_test {

/// Fine-tuning with LoRA: a whole one against PyTorch's, and what it has in common with training everything.
namespace {

using trainer::LoraRouting;
using trainer::LoraSettings;
using trajectory::Batches;
using trajectory::config;
using trajectory::golden;
using trajectory::load_start;
using trajectory::n_steps;
using trajectory::Trained;

/// W + 2 B A, of rank 4.
LoraSettings adapters(moe::Format base = moe::Format::as_stored) { return {.rank = 4, .alpha = 8, .base = base}; }

trainer::Settings settings() {
    trainer::Settings result = trajectory::settings();
    result.schedule.rate = 2e-2;
    result.adam.decay = 0;
    return result;
}

template <class T>
void load_first_a(LoraRouting<T>& routing) {
    const moe::SafetensorsFile file = golden("trajectory_lora");
    for (const moe::Parameter<T>& parameter : routing.parameters().all()) {
        if (parameter.info().name.ends_with(".lora_a")) {
            const std::vector<double> values = file.at("init." + parameter.info().name).to_double_vector();
            REQUIRE(values.size() == parameter.value().size());
            std::copy(values.begin(), values.end(), parameter.value().begin());
        }
    }
}

/// A model, its adapters and what trains them.
template <class T>
struct FineTuning {
    trainer::Model<T> model{config, 1};
    LoraRouting<T> routing;
    trainer::Trainer<T> run;

    explicit FineTuning(const LoraSettings& lora, const trainer::Settings& of = settings())
        : routing(started(model), lora), run(model, of, routing) {
        if (lora.rank == 4) {
            load_first_a(routing);
        }
    }

    /// Adapters that matter.
    void randomize() {
        std::uint64_t stream = 0;
        for (const moe::Parameter<T>& parameter : routing.parameters().all()) {
            const std::uint64_t seed = moe::random_stream(3, stream++);
            for (std::size_t i = 0; i < parameter.value().size(); ++i) {
                parameter.value()[i] += static_cast<T>(0.1 * moe::random_normal(seed, i));
            }
        }
    }
    [[nodiscard]] const moe::Parameter<T>& operator[](const std::string& name) const {
        return routing.parameters()["model.layers." + name];
    }

private:
    static const trainer::Model<T>& started(trainer::Model<T>& model) {
        load_start(model);
        return model;
    }
};

template <class T, class E>
Trained<T> train(const LoraSettings& lora, const trainer::Settings& of, std::size_t steps, const E& executor) {
    FineTuning<T> tuning(lora, of);
    return trajectory::train(tuning.run, tuning.routing.parameters(), steps, executor);
}

/// Of each target of the first batch.
template <class T>
std::vector<double> losses_of(trainer::Pass<T>& pass) {
    const Batches batches;
    pass.forward(batches[0], moe::SerialExecutor{});
    const auto losses = pass.losses(moe::SerialExecutor{});
    return {losses.begin(), losses.end()};
}

}  // namespace

TEST_CASE("fine-tuning in double is that of PyTorch, step by step", "[trajectory][lora]") {
    FineTuning<double> tuning(adapters());
    const std::vector<double> before = trajectory::state_of(tuning.model.parameters());
    trajectory::check_training(tuning.run, tuning.routing.parameters(), golden("trajectory_lora"));
    CHECK(same_bits(trajectory::state_of(tuning.model.parameters()), before));  // frozen
}

TEST_CASE("fine-tuning in float stays close to that in double", "[trajectory][lora]") {
    const moe::SafetensorsFile wanted = golden("trajectory_lora");
    const std::vector<double> steps = wanted.at("steps").to_vector<double>();
    for (const moe::Format base : {moe::Format::as_stored, moe::Format::float32}) {
        const Trained<float> trained = train<float>(adapters(base), settings(), n_steps, moe::SerialExecutor{});
        for (std::size_t i = 0; i < n_steps; ++i) {
            INFO("step " << i);
            CHECK(std::abs(trained.losses[i] - steps[4 * i]) <= 1e-3);
        }
    }
}

TEST_CASE("fine-tuning over a base of any format learns, with the same bits for any number of threads",
          "[trajectory][lora]") {
    for (const moe::Format base : {moe::Format::as_stored, moe::Format::float32, moe::Format::bfloat16,
                                   moe::Format::float16, moe::Format::int8, moe::Format::int4}) {
        INFO(moe::format_name(base));
        const Trained<float> expected = train<float>(adapters(base), settings(), 20, moe::SerialExecutor{});
        CHECK(expected.losses.back() < expected.losses.front());
        const Trained<float> in_threads = train<float>(adapters(base), settings(), 20, ThreadExecutor(3));
        CHECK(same_bits(in_threads.state, expected.state));
        CHECK(same_bits(in_threads.losses, expected.losses));
    }
}

TEST_CASE("micro-batches of adapters have the gradients of the batch, and its bits but where gate and up share an A",
          "[trajectory][lora]") {
    trainer::Settings of_tokens = settings();
    of_tokens.aux = 0;
    const Batches batches;
    FineTuning<double> whole(adapters(), of_tokens);
    of_tokens.micro_batch = 1;
    FineTuning<double> cut(adapters(), of_tokens);
    for (FineTuning<double>* tuning : {&whole, &cut}) {
        tuning->randomize();
        (void)tuning->run.compute_gradients(batches[0], moe::SerialExecutor{});
    }
    for (const moe::Parameter<double>& parameter : whole.routing.parameters().all()) {
        const std::string& name = parameter.info().name;
        INFO(name);
        const auto gradient = cut.routing.parameters()[name].gradient();
        CHECK(nmse(gradient, parameter.gradient()) <= 1e-28);
        CHECK((same_bits(gradient, parameter.gradient()) || name.ends_with("gate_up_proj.lora_a")));
    }
}

TEST_CASE("a router that learns beside adapters of B = 0 has the gradient of training everything",
          "[trajectory][lora]") {
    const Batches batches;
    trainer::Model<double> model(config, 1);
    load_start(model);
    trainer::Trainer<double> whole(model, settings());
    (void)whole.compute_gradients(batches[0], moe::SerialExecutor{});
    FineTuning<double> tuning({.rank = 3, .alpha = 1, .router = true});
    (void)tuning.run.compute_gradients(batches[0], moe::SerialExecutor{});
    for (const std::string layer : {"0", "1"}) {
        const std::string name = layer + ".mlp.gate.weight";
        CHECK(nmse(tuning[name].gradient(), model.parameters()["model.layers." + name].gradient()) <= 1e-24);
    }
    trainer::Step step = tuning.run.compute_gradients(batches[0], moe::SerialExecutor{});
    tuning.run.update(step, moe::SerialExecutor{});
    CHECK(difference(tuning["0.mlp.gate.weight"].value(), tuning.model.layers()[0].router.value(), 1e-4) != "");
    CHECK(same_bits(tuning.model.layers()[0].router.value(), model.layers()[0].router.value()));
}

TEST_CASE("nothing flows through a detached router, neither from the losses of the routing", "[trajectory][lora]") {
    const Batches batches;
    const auto gradients = [&](bool through, double aux, const std::string& name) {
        trainer::Settings with_loss = settings();
        with_loss.aux = aux;
        LoraSettings lora = adapters();
        lora.through_router = through;
        FineTuning<double> tuning(lora, with_loss);
        tuning.randomize();
        (void)tuning.run.compute_gradients(batches[0], moe::SerialExecutor{});
        const auto values = tuning[name].gradient();
        return std::vector<double>(values.begin(), values.end());
    };
    const std::string first = "0.mlp.experts.down_proj.lora_a";  // the router behind it is that of layer 1
    const std::string last = "1.mlp.experts.down_proj.lora_a";
    CHECK(nmse(gradients(false, 0.02, first), gradients(true, 0.02, first)) > 1e-12);
    CHECK(nmse(gradients(true, 0.5, first), gradients(true, 0, first)) > 1e-12);
    CHECK(same_bits(gradients(false, 0.5, first), gradients(false, 0, first)));
    CHECK(same_bits(gradients(false, 0.02, last), gradients(true, 0.02, last)));
}

TEST_CASE("a merged model predicts what the adapted one does", "[trajectory][lora]") {
    LoraSettings lora = adapters();
    lora.router = true;
    FineTuning<double> tuning(lora);
    tuning.randomize();
    trainer::Pass<double> adapted(tuning.model, trajectory::length, tuning.routing.make_blocks(tuning.model));
    const std::vector<double> expected = losses_of(adapted);
    trainer::Pass<double> without(tuning.model, trajectory::length);
    CHECK(difference(losses_of(without), expected, 1e-3) != "");
    tuning.routing.merge_into(tuning.model, moe::SerialExecutor{});
    trainer::Pass<double> merged(tuning.model, trajectory::length);
    CHECK(difference(losses_of(merged), expected, 1e-12) == "");
}

TEST_CASE("adapters that cannot be are refused", "[trajectory][lora]") {
    const trainer::Model<double> wide(config, 1);
    const trainer::Model<float> model(config, 1);
    const auto message = [](const auto& of, const LoraSettings& lora) {
        return error_of([&] { (void)LoraRouting(of, lora); }).text;
    };
    CHECK_THAT(message(model, {.rank = 0}), contains("rank is 0"));
    CHECK_THAT(message(model, {.alpha = std::numeric_limits<double>::quiet_NaN()}), contains("alpha is nan"));
    CHECK_THAT(message(model, {.base = moe::Format::float64}), contains("float cannot be kept as float64"));
    CHECK_THAT(message(wide, {.base = moe::Format::int4}), contains("double cannot be kept as int4"));
}

}  // namespace moe_test::lora_trajectory_test
