#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <moe/io.hpp>

#include "../../examples/train/adapter_files.hpp"
#include "../../examples/train/checkpoint.hpp"
#include "../../examples/train/data.hpp"
#include "../../examples/train/published.hpp"
#include "examples/small_training.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::adapter_files_test {

/// What fine-tuning reads and writes: a published model, and an adapter of PEFT.
namespace {}  // namespace

TEST_CASE("a published model is read as it was saved", "[published]") {
    const Folder folder("moe_published_saved");
    const trainer::Model<float> model(small_run().config, 1);
    trainer::save_model(folder.path(), model);
    const trainer::PublishedModel published(folder.path());
    trainer::Model<float> read(published.config(), 2);
    published.copy_to(read);
    for (const moe::Parameter<float>& parameter : model.parameters().all()) {
        std::vector<float> rounded(parameter.value().size());
        std::ranges::transform(parameter.value(), rounded.begin(),
                               [](float value) { return moe::to_float(moe::to_bfloat16(value)); });
        INFO(parameter.info().name);
        CHECK(same_bits(read.parameters()[parameter.info().name].value(), rounded));
    }
}

TEST_CASE("the model of the demo predicts what was stored beside it", "[published]") {
    Eigen::setNbThreads(1);
    const std::string directory = MOE_TEST_EXAMPLES_DIR "/models/tiny-mixtral";
    const trainer::PublishedModel published(directory);
    trainer::Model<float> model(published.config(), 1);
    published.copy_to(model);
    const generate::Checkpoint reference(directory + "/reference.safetensors");
    std::vector<std::int32_t> text = reference.tokens("text", 256);
    const std::size_t length = text.size() - 1;
    trainer::Sequences sequences(length);
    sequences.add(text, 0);
    trainer::Pass<float> pass(model, length);
    pass.forward(sequences.batch(), moe::SerialExecutor{});
    const std::span<const double> losses = pass.losses(moe::SerialExecutor{});
    const double mean = std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(length);
    CHECK(std::abs(mean - generate::read_number(directory + "/reference.json", "nll_text512")) <= 1e-4);
}

TEST_CASE("a model that is not as its config says is refused", "[published]") {
    const Folder folder("moe_published_refused");
    const trainer::Model<float> model(small_run().config, 1);
    trainer::save_model(folder.path(), model);
    trainer::Run other = small_run();
    other.config.n_experts = 6;
    const Folder other_folder("moe_published_other");
    trainer::save_model(other_folder.path(), trainer::Model<float>(other.config, 1));
    std::filesystem::copy_file(other_folder.path() + "/config.json", folder.path() + "/config.json",
                               std::filesystem::copy_options::overwrite_existing);
    CHECK_THROWS_AS(trainer::PublishedModel(folder.path()), moe::Error);
    std::filesystem::remove(folder.path() + "/config.json");
    CHECK_THROWS_AS(trainer::PublishedModel(folder.path()), moe::Error);
}

TEST_CASE("adapters are written as PEFT lays them out, gate and up in one", "[adapter_files]") {
    const Folder folder("moe_adapter_files");
    const trainer::Config config = small_run().config;
    const trainer::Model<float> model(config, 1);
    trainer::LoraRouting<float> routing(model, {.rank = 3});
    for (const moe::Parameter<float>& parameter : routing.parameters().all()) {
        std::iota(parameter.value().begin(), parameter.value().end(), 1.0F);
    }
    CHECK_FALSE(trainer::has_adapter(folder.path()));
    trainer::write_adapter(folder.path(), routing, config, "tiny");
    CHECK(trainer::has_adapter(folder.path()));
    CHECK(generate::read_number(folder.path() + "/adapter_config.json", "r") == 3);
    CHECK(generate::read_number(folder.path() + "/adapter_config.json", "lora_alpha") == 16);

    const moe::SafetensorsFile file = moe::SafetensorsFile::open(folder.path() + "/adapter_model.safetensors");
    CHECK(file.tensors().size() == 8);
    const auto check = [&](const std::string& prefix, const moe::PeftTarget& target, const std::string& tensor) {
        const auto adapter = moe::read_peft<float>(file, prefix, target);
        INFO(prefix);
        CHECK(adapter.rank == 3);
        CHECK(same_bits(adapter.a, routing.parameters()[tensor + ".lora_a"].value()));
        CHECK(same_bits(adapter.b, routing.parameters()[tensor + ".lora_b"].value()));
    };
    for (const std::string layer : {"0", "1"}) {
        const std::string tensors = "model.layers." + layer + ".mlp.experts";
        const std::string prefix = "base_model.model." + tensors;
        check(prefix + ".base_layer", {5, 14, 12, moe::PeftSide::inputs}, tensors + ".gate_up_proj");
        check(prefix, {5, 12, 7, moe::PeftSide::inputs}, tensors + ".down_proj");
    }
    const std::vector<float> b =
        file.at("base_model.model.model.layers.0.mlp.experts.lora_B.weight").to_vector<float>();
    CHECK(b[1] == 1 + 12 * 3);  // the expert is fastest: value 0 of expert 1
}

TEST_CASE("evaluating counts what each layer chose of all that it computed", "[data]") {
    Eigen::setNbThreads(1);
    const trainer::Run run = small_run();
    const std::size_t length = run.settings.length;
    const trainer::Model<float> model(run.config, 1);
    trainer::Pass<float> pass(model, length);
    const std::vector<std::int32_t> text(2 * length + 1, 'a');
    std::vector<moe::RoutingCounts> counts(2);
    for (moe::RoutingCounts& layer : counts) {
        layer.reset(5);
    }
    const double loss = evaluate(pass, text, length, 2, moe::SerialExecutor{}, counts);
    CHECK(loss == evaluate(pass, text, length, 2, moe::SerialExecutor{}));
    for (const moe::RoutingCounts& layer : counts) {  // three sequences overlap by halves
        CHECK(layer.n_tokens == 3 * length);
        CHECK(std::accumulate(layer.counts.begin(), layer.counts.end(), std::size_t{0}) == 2 * 3 * length);
    }
}

}  // namespace moe_test::adapter_files_test
