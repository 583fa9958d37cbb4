#include "options.hpp"

#include <moe/core/error.hpp>

#include "../../examples/command_line/command_line.hpp"
#include "../../examples/command_line/values.hpp"
#include "../threads.hpp"

namespace inspect {

namespace {

using command_line::parse_number;

constexpr const char* head =
    "usage: moe_inspect PATH [options]\n"
    "Tells what a published model with experts is made of, what a token costs and how fast this machine could be.\n"
    "PATH is a folder of Hugging Face (config.json and safetensors) or a GGUF file.\n";

/// Describes the command line to `parser`, which writes into `options`.
void describe(command_line::Parser& parser, Options& options) {
    using Text = const std::string&;
    parser.argument(options.path);
    parser.flag("measure", options.measure, "pack one layer and time it");
    parser.flag("plan", options.plan, "what of the model fits in the memory of this machine, in which format");
    parser.flag("no-speed", options.no_speed, "leave out the expected speed: nothing is measured");
    parser.option(
        "tokens", "NUMBERS",
        [&](Text text) {
            options.tokens = command_line::parse_list(
                text, std::vector<std::size_t>{1, 8, 64, 512, 2048},
                [](std::string_view part) { return parse_number<std::size_t>("--tokens", part, 1, 65536); });
        },
        "tokens at once, a list with commas (default: 1,64,512)");
    parser.option(
        "layer", "I", [&](Text text) { options.layer = parse_number<std::size_t>("--layer", text, 0, 1U << 20U); },
        "the layer that --measure packs (default: the first with experts)");
    parser.option(
        "threads", "N",
        [&](Text text) { options.threads = parse_number<std::size_t>("--threads", text, 1, bench::most_threads()); },
        "(default: one for each processor)");
    parser.flag("help", options.help, "print this");
}

}  // namespace

Options parse_options(std::span<const char* const> arguments) {
    Options options;
    options.threads = bench::default_threads();
    command_line::Parser parser(head);
    describe(parser, options);
    parser.parse(arguments);
    moe::ensure(options.help || !options.path.empty(), moe::ErrorCode::missing,
                "it needs the path of a folder or of a GGUF file; --help says more");
    moe::ensure(!options.layer || options.measure, moe::ErrorCode::missing,
                "--layer is for --measure, which is missing");
    return options;
}

std::string usage() {
    Options options;
    command_line::Parser parser(head);
    describe(parser, options);
    return parser.help();
}

}  // namespace inspect
