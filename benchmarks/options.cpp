#include "options.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include <moe/core/error.hpp>

#include "../examples/command_line/command_line.hpp"
#include "../examples/command_line/values.hpp"
#include "backward/rivals.hpp"
#include "bars.hpp"
#include "threads.hpp"

namespace bench {

namespace {

using command_line::joined;
using command_line::named;
using command_line::parse_list;
using command_line::parse_number;

constexpr Routing all_routings[] = {Routing::random, Routing::zipf, Routing::one};

std::vector<const Shape*> default_shapes(bool quick) {
    std::vector<const Shape*> result;
    for (const Shape& shape : shapes()) {
        if (!shape.tiny && (!quick || shape.name == "qwen3-30b-a3b")) {
            result.push_back(&shape);
        }
    }
    return result;
}

std::vector<Format> every_format() {
    std::vector<Format> result;
    std::ranges::transform(all_formats, std::back_inserter(result), &FormatInfo::format);
    return result;
}

std::vector<Compute> every_compute() {
    std::vector<Compute> result;
    std::ranges::transform(all_computes, std::back_inserter(result), &ComputeInfo::compute);
    return result;
}

std::vector<Rival> parse_rivals(std::string_view text, bool backward) {
    if (text == "none") {
        return {};
    }
    const auto available = backward ? backward::available_rivals() : available_rivals();
    std::vector<Rival> rivals = parse_list(
        text, available, [](std::string_view part) { return named("--rivals", part, all_rivals, rival_name); });
    for (const Rival rival : rivals) {
        moe::ensure(!backward || rival != Rival::dense, moe::ErrorCode::range,
                    "--backward has no rival dense: the dense network is not trained here");
        moe::ensure(!backward || rival_rounding(rival) == 0, moe::ErrorCode::range, "--backward has no rival ",
                    rival_name(rival), ": gradients are not rounded here");
        moe::ensure(std::ranges::find(available, rival) != available.end(), moe::ErrorCode::missing, "--rivals names ",
                    rival_name(rival), ", whose library was not found when this program was built");
    }
    return rivals;
}

const std::vector<std::size_t> all_tokens{1, 2, 4, 8, 16, 32, 64, 128, 512, 2048};

std::string_view shape_name(const Shape& shape) { return shape.name; }
std::string_view format_name(const FormatInfo& format) { return format.name; }
std::string_view compute_name(const ComputeInfo& compute) { return compute.name; }

const char* const head =
    "usage: moe_bench [options]\n"
    "Times MoE layers of the shapes of real models beside the limits of this machine and beside rivals.\n"
    "NAMES and NUMBERS are lists with commas; `all` is one, too.\n";

/// Describes the command line to `parser`, which writes into `options`.
void describe(command_line::Parser& parser, Options& options) {
    using Text = const std::string&;
    parser.flag("quick", options.quick, "one shape in float32 at four token counts, less time a row");
    parser.flag("backward", options.backward,
                "training: forward and backward of four shapes in float32 at 512 and 2048 tokens");
    parser.flag("bars", options.bars, "the rows that have a figure to reach, without rivals, and which reach it");
    parser.flag("scaling", options.scaling,
                "also on one thread, and with all tokens on one expert (default: at 512 tokens)");
    parser.option(
        "shape", "NAMES",
        [&](Text text) {
            options.shapes = parse_list(text, default_shapes(false), [](std::string_view part) {
                return find_shape(named("--shape", part, shapes(), shape_name).name);
            });
        },
        "of: " + joined(shapes(), shape_name) + "\n(default: all but tiny, which exists for tests)");
    parser.option(
        "format", "NAMES",
        [&](Text text) {
            options.formats = parse_list(text, every_format(), [](std::string_view part) {
                return named("--format", part, all_formats, format_name).format;
            });
        },
        "of: " + joined(all_formats, format_name));
    parser.option(
        "compute", "NAMES",
        [&](Text text) {
            options.computes = parse_list(text, every_compute(), [](std::string_view part) {
                return named("--compute", part, all_computes, compute_name).compute;
            });
        },
        "of: " + joined(all_computes, compute_name) + "\n(default: int8 for int8 and int4, exact for the others)");
    parser.option(
        "tokens", "NUMBERS",
        [&](Text text) {
            options.tokens = parse_list(text, all_tokens, [](std::string_view part) {
                return parse_number<std::size_t>("--tokens", part, 1, 65536);
            });
        },
        "tokens a batch (default: 1,2,4,8,16,32,64,128,512,2048)");
    parser.option(
        "rivals", "NAMES", [&](Text text) { options.rivals = parse_rivals(text, options.backward); },
        "of: " + joined(all_rivals, rival_name) + "; or none");
    parser.option(
        "threads", "N",
        [&](Text text) { options.threads = parse_number<std::size_t>("--threads", text, 1, most_threads()); },
        "(default: one for each processor)");
    parser.option(
        "routing", "NAME", [&](Text text) { options.routing = named("--routing", text, all_routings, routing_name); },
        "random, zipf (rank r as often as 1/r) or one (everything to one expert)");
    parser.option(
        "min-time", "S", [&](Text text) { options.min_time = parse_number<double>("--min-time", text, 0.001, 3600); },
        "seconds of the library a row (default: 1, quick: 0.3)");
    parser.option(
        "memory", "P", [&](Text text) { options.memory = parse_number<std::size_t>("--memory", text, 1, 90); },
        "percent of the free memory to use at most (default: 55, with --backward 75)");
    parser.option(
        "json", "FILE",
        [&](Text text) {
            moe::ensure(!text.empty(), moe::ErrorCode::range, "--json needs the name of a file");
            options.json = text;
        },
        "write the rows there");
    parser.option(
        "model", "PATH",
        [&](Text text) {
            moe::ensure(!text.empty(), moe::ErrorCode::range, "--model needs a folder or a GGUF file");
            options.model = text;
        },
        "a layer of this checkpoint, a folder of Hugging Face or a GGUF file, packed as\n"
        "it is stored, instead of shapes; takes --tokens, --compute, --threads,\n"
        "--min-time, --memory and");
    parser.option(
        "layer", "I", [&](Text text) { options.layer = parse_number<std::size_t>("--layer", text, 0, 1U << 20U); },
        "which (default: the first with experts)");
    parser.flag("in-place", options.in_place, "also with its weights where they lie in the file");
    parser.flag("list", options.list, "name the rows and stop");
    parser.flag("help", options.help,
                "print this\n--benchmark_... are options of Google Benchmark, e.g. --benchmark_out=FILE");
    parser.pass_on("--benchmark_", options.google);
}

/// Gradients need as much memory as weights, and are what is measured.
void set_backward_defaults(bool quick, Options& options) {
    for (const std::string_view name : bar_shapes) {
        if (!quick || name == "qwen3-30b-a3b") {
            options.shapes.push_back(find_shape(name));
        }
    }
    options.formats = {Format::f32};
    options.tokens = quick ? std::vector<std::size_t>{512} : std::vector<std::size_t>{512, 2048};
    options.rivals = backward::available_rivals();
    options.min_time = quick ? 0.3 : 1.0;
    options.memory = 75;
}

/// What --backward leaves no choice of.
void confirm_backward(const Options& options) {
    moe::ensure(options.formats == std::vector{Format::f32} &&
                    (options.computes.empty() || options.computes == std::vector{Compute::exact}),
                moe::ErrorCode::range,
                "--backward trains float32 with exact products: leave out --format and --compute");
    moe::ensure(!options.bars && !options.scaling, moe::ErrorCode::range,
                "--backward has bars and one thread of its own: leave out --bars and --scaling");
    moe::ensure(options.routing != Routing::one, moe::ErrorCode::range,
                "--backward cannot have --routing one: a token that goes to the same expert twice has no gradient");
}

/// --model has rows of its own: what says which others there are must not be given.
void confirm_model(std::span<const char* const> arguments, const Options& options) {
    moe::ensure(!options.model.empty() || (!options.layer && !options.in_place), moe::ErrorCode::missing,
                "--layer and --in-place are for --model, which is missing");
    for (const std::string_view argument : arguments) {
        for (const std::string_view other : {"--shape", "--format", "--backward", "--bars", "--scaling", "--routing",
                                             "--rivals", "--json", "--list"}) {
            moe::ensure(options.model.empty() || argument.substr(0, argument.find('=')) != other, moe::ErrorCode::range,
                        "--model times one layer packed as it is stored: leave out ", other);
        }
    }
}

/// What is measured where the command line does not say: --bars and --scaling have rows of their own, and --quick makes
/// them shorter, or measures fewer of the others.
void set_defaults(std::span<const char* const> arguments, Options& options) {
    const auto given = [&](std::string_view flag) { return std::ranges::find(arguments, flag) != arguments.end(); };
    const bool quick = given("--quick");
    options.threads = default_threads();
    options.backward = given("--backward");
    if (options.backward) {
        set_backward_defaults(quick, options);
        return;
    }
    if (given("--bars") || given("--scaling")) {
        std::ranges::transform(bar_shapes, std::back_inserter(options.shapes), find_shape);
        options.formats = every_format();
        options.tokens = {scaling_tokens};
        if (given("--bars")) {
            options.tokens.assign(std::begin(bar_tokens), std::end(bar_tokens));
        }
        options.min_time = quick ? 0.05 : 0.5;
        return;
    }
    options.shapes = default_shapes(quick);
    if (given("--model") ||
        std::ranges::any_of(arguments, [](std::string_view one) { return one.starts_with("--model="); })) {
        options.tokens = {1, 8, 64, 512};
        options.min_time = quick ? 0.1 : 1.0;
        return;
    }
    options.formats = quick ? std::vector{Format::f32} : every_format();
    options.tokens = quick ? std::vector<std::size_t>{1, 8, 64, 512} : all_tokens;
    options.rivals = available_rivals();
    options.min_time = quick ? 0.3 : 1.0;
}

}  // namespace

Options parse_options(std::span<const char* const> arguments) {
    Options options;
    set_defaults(arguments, options);
    command_line::Parser parser(head);
    describe(parser, options);
    parser.parse(arguments);
    if (options.backward && !options.help) {
        confirm_backward(options);
    }
    if (!options.help) {
        confirm_model(arguments, options);
    }
    return options;
}

std::string usage() {
    Options options;
    command_line::Parser parser(head);
    describe(parser, options);
    return parser.help();
}

}  // namespace bench
