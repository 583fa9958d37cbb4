// Fine-tunes the experts of a Mixtral model on another text: adapters of low rank learn over experts that are packed in
// few bits and stay as they are, as all else does. Experts, adapters, their gradients and the optimiser are the
// library's; the model around them is that of examples/train.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../generate/text.hpp"
#include "../generate/threads.hpp"
#include "../train/adapter_files.hpp"
#include "../train/checkpoint.hpp"
#include "../train/data.hpp"
#include "../train/folder.hpp"
#include "../train/progress.hpp"
#include "../train/published.hpp"
#include "load_drift.hpp"
#include "options.hpp"

namespace finetune {
namespace {

using trainer::LoraRouting;
using trainer::Model;
using trainer::Pass;
using trainer::Progress;
using trainer::Text;

constexpr double seconds_of_checkpoint = 60;
constexpr std::uint64_t n_lines = 40;
constexpr std::uint64_t lines_of_measure = 5;  ///< of which one says how well held-out text is predicted

/// Largest difference of a byte's loss between adapters and merged weights, nats: hundreds of roundings of logits.
constexpr double merge_tolerance = 1e-3;

/// What a model makes of both texts, nats a byte, and where it sends the new one.
struct Measured {
    double data = 0;
    double known = 0;
    std::vector<moe::RoutingCounts> counts;  ///< of each layer
};

class Measure {
public:
    Measure(const Options& options, std::size_t n_experts, const Text& data, const Text& known,
            const generate::Threads& threads)
        : settings_(options.settings), n_experts_(n_experts), data_(data), known_(known), threads_(threads) {}

    [[nodiscard]] double data(Pass<float>& pass, std::span<moe::RoutingCounts> counts = {}) const {
        return evaluate(pass, data_.held_out(), settings_.length, settings_.batch, threads_, counts);
    }
    [[nodiscard]] Measured both(Pass<float>& pass) const {
        Measured measured;
        measured.counts.resize(pass.tapes().size());
        for (moe::RoutingCounts& counts : measured.counts) {
            counts.reset(n_experts_);
        }
        measured.data = data(pass, measured.counts);
        measured.known = evaluate(pass, known_.all(), settings_.length, settings_.batch, threads_);
        return measured;
    }
    /// Of each byte of the first held-out sequences.
    [[nodiscard]] std::vector<double> losses(Pass<float>& pass) const {
        trainer::Sequences sequence(settings_.length);
        sequence.add(data_.held_out(), 0);
        pass.forward(sequence.batch(), threads_);
        const std::span<const double> losses = pass.losses(threads_);
        return {losses.begin(), losses.end()};
    }

private:
    const trainer::Settings& settings_;
    std::size_t n_experts_;
    const Text& data_;
    const Text& known_;
    const generate::Threads& threads_;
};

/// Refuses what would be written over, and what cannot be written before the work is done.
void prepare_folders(const Options& options) {
    moe::ensure(options.overwrite || !trainer::has_adapter(options.out), moe::ErrorCode::file, options.out,
                " holds an adapter; --overwrite replaces it");
    if (options.merged.empty()) {
        return;
    }
    std::error_code error;
    moe::ensure(!std::filesystem::equivalent(options.merged, options.model, error), moe::ErrorCode::file, "--merged ",
                options.merged, " is the folder of --model, which is never written over");
    moe::ensure(options.overwrite || !std::filesystem::exists(options.merged + "/model.safetensors"),
                moe::ErrorCode::file, options.merged, " holds a model; --overwrite replaces it");
    trainer::create_folder(options.merged);
}

void describe(const Options& options, const Model<float>& model, const LoraRouting<float>& routing, const Text& data,
              const Text& known) {
    const trainer::Config& config = model.config();
    const std::size_t n_learn = routing.parameters().gradients().size();
    std::printf("layers: %td of width %td, each with %td experts of %td, %td a byte, kept as %s\n", config.n_layers,
                config.d_model, config.n_experts, config.d_ff, config.top_k, moe::format_name(options.lora.base));
    std::printf("weights: %.2f million, all frozen; %.2f million more learn, of adapters of rank %zu: %.1f %% of all\n",
                1e-6 * static_cast<double>(model.n_weights()), 1e-6 * static_cast<double>(n_learn), options.lora.rank,
                100.0 * static_cast<double>(n_learn) / static_cast<double>(n_learn + model.n_weights()));
    std::printf("bytes: %zu to learn from, %zu a step, %zu held out, %zu of what was known\n\n", data.training().size(),
                options.settings.batch * options.settings.length, data.held_out().size(), known.all().size());
}

void train(const Options& options, const Text& text, const Model<float>& model, LoraRouting<float>& routing,
           trainer::Trainer<float>& run, Pass<float>& reader, const Measure& measure,
           const generate::Threads& threads) {
    const trainer::Settings& settings = options.settings;
    const std::uint64_t n_steps = settings.schedule.n_steps;
    const std::uint64_t line = std::max<std::uint64_t>(1, n_steps / n_lines);
    Progress progress(0, n_steps, settings.batch * settings.length, std::numeric_limits<double>::infinity());
    trainer::Sequences sequences(settings.length);
    double saved_at = 0;
    while (run.steps_done() < n_steps) {
        draw(text.training(), settings.seed, run.steps_done(), settings.batch, settings.length, sequences);
        progress.add(run.step(sequences.batch(), threads));
        const std::uint64_t done = run.steps_done();
        if (done % line == 0 || done == n_steps) {
            const bool measured = done % (line * lines_of_measure) == 0 || done == n_steps;
            progress.print(measured ? measure.data(reader) : std::numeric_limits<double>::quiet_NaN());
        }
        if (progress.seconds() - saved_at >= seconds_of_checkpoint) {
            trainer::write_adapter(options.out, routing, model.config(), options.model);
            saved_at = progress.seconds();
        }
    }
    std::printf("\n%llu steps took %.0f seconds\n\n", static_cast<unsigned long long>(n_steps), progress.seconds());
}

void print_row(const std::string& name, const Measured& measured) {
    std::printf("%-32s  %8.4f  %10.4f\n", name.c_str(), measured.data, measured.known);
}

/// Adapters of the same values over the weights as they are, and what merging them makes of `model`. Returns the
/// largest difference of a byte's loss, or NaN.
double merge(Model<float>& model, const LoraRouting<float>& learnt, const Measure& measure,
             const generate::Threads& threads, const trainer::Settings& settings) {
    trainer::LoraSettings unpacked = learnt.settings();
    unpacked.base = moe::Format::as_stored;
    LoraRouting<float> routing(model, unpacked);
    for (const moe::Parameter<float>& parameter : learnt.parameters().all()) {
        std::ranges::copy(parameter.value(), routing.parameters()[parameter.info().name].value().begin());
    }
    Pass<float> adapted(model, settings.length, routing.make_blocks(model));
    const std::vector<double> expected = measure.losses(adapted);
    routing.merge_into(model, threads);
    Pass<float> merged(model, settings.length);
    const std::vector<double> losses = measure.losses(merged);
    double largest = 0;
    for (std::size_t t = 0; t < losses.size(); ++t) {
        const double difference = std::abs(losses[t] - expected[t]);
        largest = difference <= largest ? largest : difference;  // NaN stays
    }
    return largest;
}

/// What the merged model that was saved writes.
void print_sample(const Options& options, const generate::Threads& threads) {
    const generate::Model model(options.merged);
    generate::Decoder decoder(model, threads);
    std::printf("\nthe model in %s writes, from an empty line on:\n", options.merged.c_str());
    generate::write_text(decoder, {.prompt = "\n",
                                   .length = std::min<std::size_t>(400, options.settings.length - 1),
                                   .context = options.settings.length,
                                   .temperature = 0.8,
                                   .seed = options.settings.seed});
}

int run(const Options& options) {
    Eigen::setNbThreads(1);
    const generate::Threads threads = generate::make_threads(options.threads);
    const trainer::Settings& settings = options.settings;
    const trainer::PublishedModel published(options.model);
    moe::ensure(std::cmp_less_equal(settings.length, published.config().max_positions), moe::ErrorCode::range,
                "--context ", settings.length, " exceeds the ", published.config().max_positions,
                " positions of the model");
    const Text data(options.data, settings.length);
    const Text known(options.known, settings.length);
    Model<float> model(published.config(), 0);
    published.copy_to(model);
    prepare_folders(options);
    LoraRouting<float> routing(model, options.lora);
    trainer::Trainer<float> trainer(model, settings, routing);
    const Measure measure(options, trainer::unsigned_size(model.config().n_experts), data, known, threads);
    Pass<float> as_published(model, settings.length);
    Pass<float> adapted(model, settings.length, routing.make_blocks(model));
    describe(options, model, routing, data, known);
    if (!trainer::has_adapter(options.out)) {
        trainer::write_adapter(options.out, routing, model.config(), options.model);
    }
    const Measured first = measure.both(as_published);
    const Measured before = measure.both(adapted);  // B = 0
    train(options, data, model, routing, trainer, adapted, measure, threads);
    trainer::write_adapter(options.out, routing, model.config(), options.model);
    const Measured after = measure.both(adapted);
    const double difference = merge(model, routing, measure, threads, settings);
    const Measured merged = measure.both(as_published);

    std::printf("nats a byte of text that is                new  known\n");
    print_row("as published", first);
    print_row(std::string("experts kept as ").append(moe::format_name(options.lora.base)), before);
    print_row("these with adapters", after);
    print_row("adapters merged into published", merged);
    std::printf("\nexpert load on the new text, %% of each layer's choices, before > after\n%s",
                load_drift(before.counts, after.counts).c_str());
    const bool same = difference <= merge_tolerance;
    std::printf(
        "\nmerged weights predict as adapters do: largest difference of a byte's loss %.1e, allowed %.0e   %s\n",
        difference, merge_tolerance, same ? "ok" : "FAILED");
    std::printf("the adapters are in %s\n", options.out.c_str());
    if (!options.merged.empty()) {
        save_model(options.merged, model);
        print_sample(options, threads);
    }
    return same ? 0 : 1;
}

}  // namespace
}  // namespace finetune

int main(int argc, char** argv) {
    try {
        const std::vector<const char*> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
        finetune::Options defaults;
        defaults.model = MOE_MODEL_DIR;
        defaults.data = MOE_TEXT_FILE;
        defaults.known = MOE_KNOWN_FILE;
        const finetune::Options options = finetune::parse_options(arguments, defaults);
        if (options.help) {
            std::fputs(finetune::usage().c_str(), stdout);
            return 0;
        }
        return finetune::run(options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "finetune_lora: %s\n", error.what());
        return 2;
    }
}
