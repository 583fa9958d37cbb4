#include "options.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include <moe/core/error.hpp>

#include "arguments.hpp"
#include "bars.hpp"
#include "parse.hpp"
#include "threads.hpp"

namespace bench {

namespace {

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

std::vector<Rival> parse_rivals(std::string_view text) {
    if (text == "none") {
        return {};
    }
    std::vector<Rival> rivals = parse_list(text, available_rivals(), [](std::string_view part) {
        return named("--rivals", part, all_rivals, rival_name);
    });
    for (const Rival rival : rivals) {
        const auto available = available_rivals();
        moe::require(std::ranges::find(available, rival) != available.end(), moe::ErrorCode::missing, "--rivals names ",
                     rival_name(rival), ", whose library was not found when this program was built");
    }
    return rivals;
}

const std::vector<std::size_t> all_tokens{1, 2, 4, 8, 16, 32, 64, 128, 512, 2048};

constexpr Option<Options> options_with_value[] = {
    {"--shape",
     [](Options& o, std::string_view v) {
         o.shapes = parse_list(v, default_shapes(false), [](std::string_view part) {
             return &*std::ranges::find(
                 shapes(), named("--shape", part, shapes(), [](const Shape& shape) { return shape.name; }).name,
                 &Shape::name);
         });
     }},
    {"--format",
     [](Options& o, std::string_view v) {
         o.formats = parse_list(v, every_format(), [](std::string_view part) {
             return named("--format", part, all_formats, [](const FormatInfo& f) { return f.name; }).format;
         });
     }},
    {"--compute",
     [](Options& o, std::string_view v) {
         o.computes = parse_list(v, every_compute(), [](std::string_view part) {
             return named("--compute", part, all_computes, [](const ComputeInfo& c) { return c.name; }).compute;
         });
     }},
    {"--tokens",
     [](Options& o, std::string_view v) {
         o.tokens = parse_list(v, all_tokens, [](std::string_view part) {
             return parse_number<std::size_t>("--tokens", part, 1, 65536);
         });
     }},
    {"--rivals", [](Options& o, std::string_view v) { o.rivals = parse_rivals(v); }},
    {"--threads",
     [](Options& o, std::string_view v) { o.threads = parse_number<std::size_t>("--threads", v, 1, most_threads()); }},
    {"--routing",
     [](Options& o, std::string_view v) { o.routing = named("--routing", v, all_routings, routing_name); }},
    {"--min-time",
     [](Options& o, std::string_view v) { o.min_time = parse_number<double>("--min-time", v, 0.001, 3600); }},
    {"--memory", [](Options& o, std::string_view v) { o.memory = parse_number<std::size_t>("--memory", v, 1, 90); }},
    {"--json",
     [](Options& o, std::string_view v) {
         moe::require(!v.empty(), moe::ErrorCode::range, "--json needs the name of a file");
         o.json = v;
     }},
};

constexpr Flag<Options> flags[] = {{"--quick", &Options::quick},
                                   {"--bars", &Options::bars},
                                   {"--scaling", &Options::scaling},
                                   {"--list", &Options::list},
                                   {"--help", &Options::help}};

/// What is measured where the command line does not say: --bars and --scaling have rows of their own, and --quick makes
/// them shorter, or measures fewer of the others.
void set_defaults(std::span<const char* const> arguments, Options& options) {
    const auto given = [&](std::string_view flag) { return std::ranges::find(arguments, flag) != arguments.end(); };
    const bool quick = given("--quick");
    options.threads = default_threads();
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
    options.formats = quick ? std::vector{Format::f32} : every_format();
    options.tokens = quick ? std::vector<std::size_t>{1, 8, 64, 512} : all_tokens;
    options.rivals = available_rivals();
    options.min_time = quick ? 0.3 : 1.0;
}

}  // namespace

Options parse_options(std::span<const char* const> arguments) {
    Options options;
    set_defaults(arguments, options);
    parse_arguments<Options>(arguments, flags, options_with_value, options);
    return options;
}

std::string usage() {
    return "usage: moe_bench [options]\n"
           "Times MoE layers of the shapes of real models beside the limits of this machine and beside rivals.\n"
           "\n"
           "  --quick            one shape in float32 at four token counts, less time a row\n"
           "  --bars             the rows that have a figure to reach, without rivals, and which reach it\n"
           "  --scaling          also on one thread, and with all tokens on one expert (default: at 512 tokens)\n"
           "  --shape NAMES      of: " +
           joined(shapes(), [](const Shape& shape) { return shape.name; }) +
           "\n"
           "                     (default: all but tiny, which exists for tests)\n"
           "  --format NAMES     of: " +
           joined(all_formats, [](const FormatInfo& f) { return f.name; }) +
           "\n"
           "  --compute NAMES    of: " +
           joined(all_computes, [](const ComputeInfo& c) { return c.name; }) +
           "\n"
           "                     (default: int8 for int8 and int4, exact for the others)\n"
           "  --tokens NUMBERS   tokens a batch (default: 1,2,4,8,16,32,64,128,512,2048)\n"
           "  --rivals NAMES     of: " +
           joined(all_rivals, rival_name) +
           "; or none\n"
           "  --threads N        (default: one for each processor)\n"
           "  --routing NAME     random, zipf (rank r as often as 1/r) or one (everything to one expert)\n"
           "  --min-time S       seconds of the library a row (default: 1, quick: 0.3)\n"
           "  --memory P         percent of the free memory to use at most (default: 55)\n"
           "  --json FILE        write the rows there\n"
           "  --list             name the rows and stop\n"
           "  --help             print this\n"
           "  --benchmark_...    options of Google Benchmark, e.g. --benchmark_out=FILE, --benchmark_filter=REGEX\n"
           "NAMES and NUMBERS are lists with commas; `all` is one, too.\n";
}

}  // namespace bench
