#include "options.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include <moe/core/error.hpp>

#include "../arguments.hpp"
#include "../formatted.hpp"
#include "../parse.hpp"
#include "../threads.hpp"

namespace compare {

namespace {

constexpr std::string_view default_shape_names[] = {"granite-1b-a400m", "qwen3-30b-a3b"};
const std::vector<std::size_t> default_tokens{1, 64, 512};

std::string_view shape_name(const bench::Shape& shape) { return shape.name; }
std::string_view strategy_name(const Strategy& strategy) { return strategy.name; }

std::vector<const bench::Shape*> default_shapes() {
    std::vector<const bench::Shape*> shapes;
    std::ranges::transform(default_shape_names, std::back_inserter(shapes), bench::find_shape);
    return shapes;
}

std::vector<const Strategy*> every_strategy() {
    std::vector<const Strategy*> result;
    std::ranges::transform(strategies(), std::back_inserter(result), [](const Strategy& s) { return &s; });
    return result;
}

std::vector<const Strategy*> parse_strategies(std::string_view text) {
    return bench::parse_list(text, every_strategy(), [](std::string_view part) {
        const std::string_view name = bench::named("--strategies", part, strategies(), strategy_name).name;
        return &*std::ranges::find(strategies(), name, &Strategy::name);
    });
}

void set_file(std::string_view option, std::string_view value, std::string& file) {
    moe::require(!value.empty(), moe::ErrorCode::range, option, " needs the name of a file");
    file = value;
}

constexpr bench::Option<Options> options_with_value[] = {
    {"--shapes",
     [](Options& o, std::string_view v) {
         o.shapes = bench::parse_list(v, default_shapes(), [](std::string_view part) {
             return bench::find_shape(bench::named("--shapes", part, bench::shapes(), shape_name).name);
         });
     }},
    {"--strategies", [](Options& o, std::string_view v) { o.strategies = parse_strategies(v); }},
    {"--tokens",
     [](Options& o, std::string_view v) {
         o.tokens = bench::parse_list(v, default_tokens, [](std::string_view part) {
             return bench::parse_number<std::size_t>("--tokens", part, 1, 8192);
         });
     }},
    {"--distribution",
     [](Options& o, std::string_view v) {
         o.distribution = bench::named("--distribution", v, all_distributions, distribution_name);
     }},
    {"--seed",
     [](Options& o, std::string_view v) { o.seed = bench::parse_number<std::uint64_t>("--seed", v, 0, UINT64_MAX); }},
    {"--threads",
     [](Options& o, std::string_view v) {
         o.threads = bench::parse_number<std::size_t>("--threads", v, 1, bench::most_threads());
     }},
    {"--json", [](Options& o, std::string_view v) { set_file("--json", v, o.json); }},
    {"--csv", [](Options& o, std::string_view v) { set_file("--csv", v, o.csv); }},
    {"--html", [](Options& o, std::string_view v) { set_file("--html", v, o.html); }},
};

constexpr bench::Flag<Options> flags[] = {
    {"--quick", &Options::quick}, {"--list", &Options::list}, {"--help", &Options::help}};

Options defaults(bool quick) {
    Options options;
    options.shapes = default_shapes();
    options.strategies = every_strategy();
    options.tokens = default_tokens;
    if (quick) {
        options.shapes.resize(1);
        options.tokens = {1, 64};
    }
    options.threads = bench::default_threads();
    return options;
}

}  // namespace

Options parse_options(std::span<const char* const> arguments) {
    Options options = defaults(std::ranges::find(arguments, std::string_view("--quick")) != arguments.end());
    bench::parse_arguments<Options>(arguments, flags, options_with_value, options);
    return options;
}

std::string usage() {
    return "usage: moe_compare [options]\n"
           "Compares ways to choose experts: speed, balance of the load, quality of a small model, and collapse.\n"
           "\n"
           "  --quick             one shape at 1 and 64 tokens, fewer repetitions, less text\n"
           "  --shapes NAMES      whose speed is measured, of: " +
           bench::joined(bench::shapes(), shape_name) +
           "\n"
           "                      (default: " +
           bench::joined(default_shape_names, [](std::string_view name) { return name; }) +
           ")\n"
           "  --strategies NAMES  (default: all, see --list)\n"
           "  --tokens NUMBERS    tokens a batch (default: 1,64,512)\n"
           "  --distribution NAME how often experts are favourites where speed is measured: uniform, zipf or one-hot\n"
           "  --seed N            of everything random; the same seed gives the same routing (default: 1)\n"
           "  --threads N         (default: one for each processor)\n"
           "  --json FILE         write all figures there\n"
           "  --csv FILE          write all figures there\n"
           "  --html FILE         write a page with plots there\n"
           "  --list              name the strategies and shapes and stop\n"
           "  --help              print this\n"
           "  --benchmark_...     options of Google Benchmark, which carries the times, e.g. --benchmark_out=FILE\n"
           "NAMES and NUMBERS are lists with commas; `all` stands for the default.\n";
}

std::string list() {
    std::string text = "strategies (* looks at the whole batch)\n";
    for (const Strategy& strategy : strategies()) {
        text += bench::formatted("  %-20.*s%s %.*s\n", static_cast<int>(strategy.name.size()), strategy.name.data(),
                                 strategy.causal ? " " : "*", static_cast<int>(strategy.description.size()),
                                 strategy.description.data());
    }
    text += left_out();
    text += "shapes\n";
    for (const bench::Shape& shape : bench::shapes()) {
        text += bench::formatted("  %-20.*s  %zu experts, %zu a token, d_model %zu, d_ff %zu\n",
                                 static_cast<int>(shape.name.size()), shape.name.data(), shape.n_experts, shape.top_k,
                                 shape.d_model, shape.d_ff);
    }
    return text;
}

}  // namespace compare
