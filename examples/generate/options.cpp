#include "options.hpp"

#include <moe/core/error.hpp>

#include "../command_line/command_line.hpp"
#include "../command_line/values.hpp"

namespace generate {

namespace {

/// Describes the command line to `parser`, which writes into `options`.
void describe(command_line::Parser& parser, Options& options) {
    using command_line::parse_number;
    using Text = const std::string&;
    parser.option(
        "prompt", "TEXT",
        [&](Text text) {
            moe::ensure(!text.empty(), moe::ErrorCode::range, "the prompt is empty; give at least one character");
            options.prompt = text;
        },
        "text to continue (default: ROMEO: and a new line)");
    parser.option(
        "length", "N", [&](Text text) { options.length = parse_number("--length", text, 1, 1000000); },
        "bytes to generate (default: 400)");
    parser.option(
        "context", "N", [&](Text text) { options.context = parse_number("--context", text, 2, 1000000); },
        "most bytes to look back at; a longer text is read anew from its last half\n"
        "of them (default: 256, what the model was trained on, or all it has)");
    parser.option(
        "temperature", "X", [&](Text text) { options.temperature = parse_number("--temperature", text, 0.0, 100.0); },
        "0 takes the likeliest byte, larger is more random (default: 0.8)");
    parser.option(
        "seed", "N", [&](Text text) { options.seed = parse_number<std::uint64_t>("--seed", text, 0, UINT64_MAX); },
        "of the random choice; the same seed gives the same text (default: 1)");
    parser.option(
        "threads", "N", [&](Text text) { options.threads = parse_number("--threads", text, 1, 1024); },
        "threads of the MoE layers (default: one for each processor)");
    parser.option(
        "model", "PATH", [&](Text text) { options.model = text; },
        "folder with config.json, model.safetensors and, to be checked against,\n"
        "reference.json and reference.safetensors; or a GGUF file\n"
        "(default: the folder of this repository)");
    parser.option(
        "reference", "DIR", [&](Text text) { options.reference = text; },
        "folder with the values to check against (default: the model's, if it is a folder)");
    parser.option(
        "write-gguf", "FILE",
        [&](Text text) {
            moe::ensure(text.size() > 5 && text.ends_with(".gguf"), moe::ErrorCode::range, "--write-gguf is '", text,
                        "', it must end with .gguf");
            options.write_gguf = text;
        },
        "write the model of a folder as llama.cpp has it, and stop");
    parser.flag("help", options.help, "print this");
}

constexpr const char* head =
    "usage: generate [options]\n"
    "Checks a small Mixtral model against stored values, then continues a text with it.\n";

}  // namespace

Options parse_options(std::span<const char* const> arguments) {
    Options options;
    options.model = MOE_MODEL_DIR;
    command_line::Parser parser(head);
    describe(parser, options);
    parser.parse(arguments);
    return options;
}

std::string usage() {
    Options options;
    command_line::Parser parser(head);
    describe(parser, options);
    return parser.help();
}

}  // namespace generate
