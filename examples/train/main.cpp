// Trains a Mixtral model on the bytes of a text. The MoE blocks, their gradients, the losses of their routing and the
// optimiser are the library's; all else is in this folder.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <limits>
#include <string>
#include <vector>

#include "../generate/text.hpp"
#include "../generate/threads.hpp"
#include "checkpoint.hpp"
#include "data.hpp"
#include "options.hpp"
#include "progress.hpp"

namespace trainer {
namespace {

constexpr double seconds_of_checkpoint = 60;
constexpr std::uint64_t n_lines = 40;
constexpr std::uint64_t lines_of_measure = 5;  ///< of which one says how well held-out text is predicted

/// What the command line says, over what a training that is to be taken up again was.
Options read_options(std::span<const char* const> arguments) {
    Options options;
    options.data = MOE_TEXT_FILE;
    const Options given = parse_options(arguments, options);
    if (given.help || !given.resume) {
        return given;
    }
    options.run = read_run(given.out);
    return parse_options(arguments, options);
}

void describe(const Model<float>& model, const Settings& settings, const Text& text) {
    const Config& config = model.config();
    std::printf("layers: %td of width %td, each with %td experts of %td, %td a byte\n", config.n_layers, config.d_model,
                config.n_experts, config.d_ff, config.top_k);
    std::printf("weights: %.2f million, %.2f active\n", 1e-6 * static_cast<double>(model.n_weights()),
                1e-6 * static_cast<double>(model.n_active_weights()));
    std::printf("bytes: %zu to learn from, %zu a step, %zu held out\n\n", text.training().size(),
                settings.batch * settings.length, text.held_out().size());
}

/// What the model that was saved writes.
void print_sample(const std::string& directory, std::uint64_t seed, const generate::Threads& threads) {
    const generate::Model model(directory);
    generate::Decoder decoder(model, threads);
    std::printf("\nthe model in %s writes, from an empty line on:\n", directory.c_str());
    generate::write_text(decoder, {.prompt = "\n",
                                   .length = 400,
                                   .context = unsigned_size(model.config().max_positions),
                                   .temperature = 0.8,
                                   .seed = seed});
}

void save(const Options& options, const Trainer<float>& trainer, const Model<float>& model) {
    save_training(options.out, model, options.run, trainer.steps_done());
    save_model(options.out, model);
}

/// Trains until all steps are done or the time is over, and saves every now and then. Returns the loss on held-out
/// text.
double train(const Options& options, const Text& text, Model<float>& model, Trainer<float>& trainer,
             const generate::Threads& threads) {
    const Settings& settings = options.run.settings;
    Pass<float> reader(model, settings.length);
    const auto measure = [&] { return evaluate(reader, text.held_out(), settings.length, settings.batch, threads); };
    const std::uint64_t n_steps = settings.schedule.n_steps;
    const std::uint64_t line = std::max<std::uint64_t>(1, n_steps / n_lines);
    const double most_seconds = options.minutes > 0 ? 60 * options.minutes : std::numeric_limits<double>::infinity();
    Progress progress(trainer.steps_done(), n_steps, settings.batch * settings.length, most_seconds);
    Sequences sequences(settings.length);
    double saved_at = 0;
    while (trainer.steps_done() < n_steps && progress.seconds() < most_seconds) {
        draw(text.training(), settings.seed, trainer.steps_done(), settings.batch, settings.length, sequences);
        progress.add(trainer.step(sequences.batch(), threads));
        const std::uint64_t done = trainer.steps_done();
        if (done % line == 0 && done != n_steps) {
            const bool measured = done % (line * lines_of_measure) == 0;
            progress.print(measured ? measure() : std::numeric_limits<double>::quiet_NaN());
        }
        if (progress.seconds() - saved_at >= seconds_of_checkpoint) {
            save(options, trainer, model);
            saved_at = progress.seconds();
        }
    }
    const double held_out = measure();
    progress.print(held_out);
    return held_out;
}

int run(const Options& options) {
    Eigen::setNbThreads(1);
    const generate::Threads threads = generate::make_threads(options.threads);
    const Settings& settings = options.run.settings;
    moe::ensure(options.resume || options.overwrite || !has_training(options.out), moe::ErrorCode::file, options.out,
                " holds a training; --resume goes on with it, --overwrite replaces it");
    const Text text(options.data, settings.length);
    Model<float> model(options.run.config, settings.seed);
    Trainer<float> trainer(model, settings);
    if (options.resume) {
        trainer.resume_after(load_training(options.out, model));
    }
    describe(model, settings, text);
    if (!has_training(options.out)) {
        save(options, trainer, model);  // what cannot be written shall be known before the work is done
    }
    const auto start = Progress::Clock::now();
    const double held_out = train(options, text, model, trainer, threads);
    save(options, trainer, model);
    std::printf("\n%.4f nats a byte of held-out text after %llu steps, %.0f seconds\n", held_out,
                static_cast<unsigned long long>(trainer.steps_done()),
                std::chrono::duration<double>(Progress::Clock::now() - start).count());
    print_sample(options.out, settings.seed, threads);
    return 0;
}

}  // namespace
}  // namespace trainer

int main(int argc, char** argv) {
    try {
        const std::vector<const char*> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
        const trainer::Options options = trainer::read_options(arguments);
        if (options.help) {
            std::fputs(trainer::usage().c_str(), stdout);
            return 0;
        }
        return trainer::run(options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "train: %s\n", error.what());
        return 2;
    }
}
