#include "options.hpp"

#include "../command_line/number_option.hpp"

namespace trainer {

namespace {

using command_line::add_number;

/// Describes the command line to `parser`, which writes into `options`.
void describe(command_line::Parser& parser, Options& options) {
    using Size = std::ptrdiff_t;
    Settings& settings = options.run.settings;
    Config& config = options.run.config;
    add_number<std::uint64_t>(parser, "steps", settings.schedule.n_steps, 1, 10'000'000,
                              "updates of the weights; the rate falls to a tenth over all of them");
    add_number<std::size_t>(parser, "batch", settings.batch, 1, 4096, "sequences of a step");
    add_number<std::size_t>(parser, "micro-batch", settings.micro_batch, 1, 4096,
                            "sequences that are in memory at once, a part of --batch (default: all)");
    add_number<std::size_t>(parser, "context", settings.length, 2, 4096, "bytes of a sequence");
    add_number<Size>(parser, "layers", config.n_layers, 1, 256, "attention and sparse block each");
    add_number<Size>(parser, "d-model", config.d_model, 2, 16384, "width; heads of at most 32 follow from it");
    add_number<Size>(parser, "experts", config.n_experts, 1, 4096, "of each layer");
    add_number<Size>(parser, "top-k", config.top_k, 1, 64,
                     "experts that a byte goes through; a router of 1 learns from --aux alone");
    add_number<Size>(parser, "d-ff", config.d_ff, 1, 65536, "hidden width of an expert");
    add_number<double>(parser, "rate", settings.schedule.rate, 0.0, 1.0, "highest learning rate of AdamW");
    add_number<double>(parser, "aux", settings.aux, 0.0, 100.0, "coefficient of the load balance loss");
    add_number<double>(parser, "z", settings.z, 0.0, 100.0, "coefficient of the z-loss of the routers (default: 0)");
    add_number<std::uint64_t>(parser, "seed", settings.seed, 0, UINT64_MAX, "of first weights and batches");
    add_number<int>(parser, "threads", options.threads, 1, 1024,
                    "the same result for any number (default: one for each processor)");
    add_number<double>(parser, "minutes", options.minutes, 1e-6, 1e6, "stop after so long; --resume goes on");
    parser.option(
        "data", "FILE", [&](const std::string& text) { options.data = text; },
        "text to learn (default: Shakespeare's plays, in this repository)");
    parser.option(
        "out", "DIR", [&](const std::string& text) { options.out = text; },
        "folder of the model, written every minute and at the end (default: trained-moe)");
    parser.flag("resume", options.resume, "go on with the training in --out; options given now replace its own");
    parser.flag("overwrite", options.overwrite, "begin anew where --out holds a training");
    parser.flag("help", options.help, "print this");
}

constexpr const char* head =
    "usage: train [options]\n"
    "Trains a small Mixtral model on the bytes of a text, and shows how it goes.\n";

}  // namespace

Options parse_options(std::span<const char* const> arguments, const Options& defaults) {
    Options options = defaults;
    command_line::Parser parser(head);
    describe(parser, options);
    parser.parse(arguments);
    complete(options.run);
    return options;
}

std::string usage() {
    Options options;
    command_line::Parser parser(head);
    describe(parser, options);
    return parser.help();
}

}  // namespace trainer
