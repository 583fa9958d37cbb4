#include "options.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "../command_line/number_option.hpp"

namespace finetune {

namespace {

using command_line::add_number;

constexpr std::array formats{moe::Format::as_stored, moe::Format::float32, moe::Format::bfloat16,
                             moe::Format::float16,   moe::Format::int8,    moe::Format::int4};

/// Describes the command line to `parser`, which writes into `options`.
void describe(command_line::Parser& parser, Options& options) {
    trainer::Settings& settings = options.settings;
    trainer::LoraSettings& lora = options.lora;
    const auto name = [](moe::Format format) { return moe::format_name(format); };
    const auto text = [&](const char* option, const char* value, std::string& into, const char* help) {
        parser.option(
            option, value, [&into](const std::string& given) { into = given; }, help);
    };
    add_number<std::uint64_t>(parser, "steps", settings.schedule.n_steps, 1, 10'000'000,
                              "updates of the adapters; the rate falls to a tenth over all of them");
    add_number<std::size_t>(parser, "rank", lora.rank, 1, 4096, "of each adapter");
    add_number<double>(parser, "alpha", lora.alpha, 0.0, 1e6, "adapters add alpha / rank times their product");
    parser.option(
        "base", "FORMAT",
        [&lora, name](const std::string& given) { lora.base = command_line::named("--base", given, formats, name); },
        "what the frozen experts are packed in: " + command_line::joined(formats, name) + " (default: int4)");
    parser.flag("detach-router", options.detach_router, "let nothing flow to x through the routers, which are frozen");
    add_number<double>(parser, "rate", settings.schedule.rate, 0.0, 1.0, "highest learning rate of AdamW");
    add_number<std::size_t>(parser, "batch", settings.batch, 1, 4096, "sequences of a step");
    add_number<std::size_t>(parser, "context", settings.length, 2, 4096, "bytes of a sequence");
    add_number<double>(parser, "aux", settings.aux, 0.0, 100.0,
                       "coefficient of the load balance loss, which frozen routers hand on to x (default: 0)");
    add_number<std::uint64_t>(parser, "seed", settings.seed, 0, UINT64_MAX, "of first adapters and batches");
    add_number<int>(parser, "threads", options.threads, 1, 1024,
                    "the same result for any number (default: one for each processor)");
    text("model", "DIR", options.model, "folder with config.json and model.safetensors (default: tiny-mixtral)");
    text("data", "FILE", options.data, "text to learn (default: Caesar's Gallic War, in this repository)");
    text("known", "FILE", options.known, "text that shows what is forgotten (default: Shakespeare, held out)");
    text("out", "DIR", options.out,
         "folder of the adapters, as PEFT has them, written every minute and at the end (default: finetuned-moe)");
    text("merged", "DIR", options.merged, "folder of a model with the adapters merged, for the demo");
    parser.flag("overwrite", options.overwrite, "replace what --out and --merged hold");
    parser.flag("help", options.help, "print this");
}

constexpr const char* head =
    "usage: finetune_lora [options]\n"
    "Fine-tunes the experts of a small Mixtral model on the bytes of a text, with LoRA over a quantised base,\n"
    "and shows what it learns and forgets.\n";

}  // namespace

Options parse_options(std::span<const char* const> arguments, const Options& defaults) {
    Options options = defaults;
    command_line::Parser parser(head);
    describe(parser, options);
    parser.parse(arguments);
    options.lora.through_router = !options.detach_router;
    options.lora.seed = options.settings.seed;
    const std::uint64_t n_steps = options.settings.schedule.n_steps;
    options.settings.schedule.warm_up = std::min<std::uint64_t>(n_steps / 10, 100);
    return options;
}

std::string usage() {
    Options options;
    command_line::Parser parser(head);
    describe(parser, options);
    return parser.help();
}

}  // namespace finetune
