#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "../../examples/generate/model.hpp"
#include "../../examples/train/checkpoint.hpp"
#include "../../examples/train/data.hpp"
#include "examples/small_training.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::checkpoint_test {

/// Files of a training, and the text it reads.
namespace {

std::vector<std::int32_t> some_text(std::size_t size) {
    std::vector<std::int32_t> text(size);
    for (std::size_t t = 0; t < size; ++t) {
        text[t] = static_cast<std::int32_t>(moe::random_bits(1, t) % 7 * (t % 11) + 'a');
    }
    return text;
}

template <class T>
void train(trainer::Trainer<T>& trainer, const trainer::Run& run, std::uint64_t until) {
    const std::vector<std::int32_t> text = some_text(500);
    trainer::Sequences sequences(run.settings.length);
    while (trainer.steps_done() < until) {
        trainer::draw(text, run.settings.seed, trainer.steps_done(), run.settings.batch, run.settings.length,
                      sequences);
        (void)trainer.step(sequences.batch(), moe::SerialExecutor{});
    }
}

template <class T>
std::vector<T> state_of(const trainer::Model<T>& model) {
    std::vector<T> state;
    for (const moe::Parameter<T>& parameter : model.parameters().all()) {
        for (const auto& part : {parameter.state().value, parameter.state().mean, parameter.state().square}) {
            state.insert(state.end(), part.begin(), part.end());
        }
    }
    return state;
}

template <class T>
void check_resumed(const trainer::Run& run, const std::string& directory) {
    trainer::Model<T> whole(run.config, 1);
    trainer::Trainer<T> uninterrupted(whole, run.settings);
    train(uninterrupted, run, 12);
    {
        trainer::Model<T> model(run.config, 1);
        trainer::Trainer<T> trainer(model, run.settings);
        train(trainer, run, 5);
        trainer::save_training(directory, model, run, trainer.steps_done());
    }
    const trainer::Run read = trainer::read_run(directory);
    trainer::Model<T> model(read.config, 99);
    trainer::Trainer<T> trainer(model, read.settings);
    trainer.resume_after(trainer::load_training(directory, model));
    CHECK(trainer.steps_done() == 5);
    CHECK_FALSE(same_bits(state_of(model), state_of(whole)));
    train(trainer, read, 12);
    CHECK(same_bits(state_of(model), state_of(whole)));
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace

TEST_CASE("a training that is interrupted and taken up again has the bits of one that is not", "[checkpoint]") {
    Eigen::setNbThreads(1);
    const Folder folder("moe_checkpoint_resumed");
    check_resumed<float>(small_run(), folder.path());
    check_resumed<double>(small_run(), folder.path());
}

TEST_CASE("a training in a damaged file is an error, and the model stays as it was", "[checkpoint]") {
    const Folder folder("moe_checkpoint_damaged");
    const trainer::Run run = small_run();
    trainer::Model<float> model(run.config, 1);
    CHECK_FALSE(trainer::has_training(folder.path()));
    CHECK_THROWS_AS(trainer::read_run(folder.path()), moe::Error);
    trainer::save_training(folder.path(), model, run, 3);
    REQUIRE(trainer::has_training(folder.path()));
    const std::vector<float> before = state_of(model);
    const std::string path = folder.path() + "/training.safetensors";
    const std::string whole = read_file(path);
    REQUIRE(whole.size() > 10'000);
    const auto refused = [&](const std::string& bytes) {
        write_file(path, bytes);
        CHECK_THROWS_AS(trainer::load_training(folder.path(), model), moe::Error);
        CHECK(same_bits(state_of(model), before));
    };
    for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{500}, whole.size() - 1}) {
        refused(whole.substr(0, size));
    }
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string changed = whole;
        REQUIRE(changed.find(from) != std::string::npos);
        return changed.replace(changed.find(from), from.size(), to);
    };
    refused(with("model.norm.weight.mean", "model.norm.weight.main"));
    refused(with("\"steps_done\":\"3\"", "\"steps_done\":\"x\""));
    refused(with("\"steps_done\":\"3\"", "\"steps_dona\":\"3\""));
    for (const std::string& value : {std::string("-2"), std::string("0x"), std::string("00")}) {
        write_file(path, with("\"d_model\":\"12\"", "\"d_model\":\"" + value + "\""));
        CHECK_THROWS_AS(trainer::read_run(folder.path()), moe::Error);
    }
    write_file(path, whole);
    trainer::Run other = run;
    other.config.d_ff = 8;
    trainer::Model<float> wider(other.config, 1);
    CHECK_THROWS_AS(trainer::load_training(folder.path(), wider), moe::Error);
    trainer::Model<double> finer(run.config, 1);
    CHECK_THROWS_AS(trainer::load_training(folder.path(), finer), moe::Error);
    CHECK(trainer::load_training(folder.path(), model) == 3);
}

TEST_CASE("the demo computes what was trained", "[checkpoint]") {
    Eigen::setNbThreads(1);
    const Folder folder("moe_checkpoint_demo");
    const trainer::Run run = small_run();
    trainer::Model<float> model(run.config, 1);
    trainer::Trainer<float> trainer(model, run.settings);
    train(trainer, run, 8);
    trainer::save_model(folder.path(), model);
    for (const moe::Parameter<float>& parameter : model.parameters().all()) {  // as it is in the file
        std::ranges::transform(parameter.value(), parameter.value().begin(),
                               [](float value) { return moe::to_float(moe::to_bfloat16(value)); });
    }
    const std::vector<std::int32_t> text = some_text(run.settings.length + 1);
    trainer::Sequences sequences(run.settings.length);
    sequences.add(text, 0);
    trainer::Pass<float> pass(model, run.settings.length);
    pass.forward(sequences.batch(), moe::SerialExecutor{});
    const std::span<const double> losses = pass.losses(moe::SerialExecutor{});

    const generate::Model demo(folder.path());
    generate::Decoder decoder(demo, generate::Threads());
    const generate::Matrix logits = decoder.append(std::span(text).first(run.settings.length));
    REQUIRE(losses.size() == run.settings.length);
    for (std::size_t t = 0; t < losses.size(); ++t) {
        const double wanted = generate::negative_log_likelihood(logits, static_cast<Eigen::Index>(t), text[t + 1]);
        CHECK(std::abs(losses[t] - wanted) <= 1e-5);
    }
}

TEST_CASE("held-out text is predicted byte by byte, each once", "[data]") {
    Eigen::setNbThreads(1);
    const trainer::Run run = small_run();
    const std::size_t length = run.settings.length;
    trainer::Model<double> model(run.config, 1);
    trainer::Pass<double> pass(model, length);
    const moe::SerialExecutor one;
    for (const std::size_t size : {length + 1, length + 2, 5 * length, 5 * length + 7}) {
        const std::vector<std::int32_t> text = some_text(size);
        double sum = 0;
        for (std::size_t t = 0; t + 1 < size;) {  // windows one by one, the last of them ends with the text
            const std::size_t first = t == 0 ? 0 : std::min(t - length / 2, size - 1 - length);
            trainer::Sequences window(length);
            window.add(text, first);
            pass.forward(window.batch(), one);
            const std::span<const double> losses = pass.losses(one);
            for (; t < first + length; ++t) {
                sum += losses[t - first];
            }
        }
        const double wanted = sum / static_cast<double>(size - 1);
        CHECK(std::abs(trainer::evaluate(pass, text, length, 1, one) - wanted) <= 1e-12);
        CHECK(std::abs(trainer::evaluate(pass, text, length, 4, one) - wanted) <= 1e-12);
    }
}

TEST_CASE("batches are parts of the text and depend on the step alone", "[data]") {
    const std::vector<std::int32_t> text = some_text(100);
    trainer::Sequences sequences(9);
    trainer::Sequences again(9);
    std::vector<std::int32_t> last;
    for (std::uint64_t step = 0; step < 50; ++step) {
        trainer::draw(text, 3, step, 4, 9, sequences);
        trainer::draw(text, 3, step, 4, 9, again);
        const trainer::Batch batch = sequences.batch();
        REQUIRE(batch.n_sequences == 4);
        CHECK(std::ranges::equal(batch.tokens, again.batch().tokens));
        for (std::size_t s = 0; s < 4; ++s) {
            const auto part = batch.tokens.subspan(9 * s, 9);
            REQUIRE(std::search(text.begin(), text.end(), part.begin(), part.end()) != text.end());
            CHECK(std::ranges::equal(batch.targets.subspan(9 * s, 8), part.subspan(1)));
        }
        CHECK_FALSE(std::ranges::equal(batch.tokens, last));
        last.assign(batch.tokens.begin(), batch.tokens.end());
    }
}

}  // namespace moe_test::checkpoint_test
