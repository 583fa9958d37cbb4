#include "options.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include <moe/core/error.hpp>

#include "../../examples/command_line/command_line.hpp"
#include "../../examples/command_line/values.hpp"
#include "../formatted.hpp"
#include "../threads.hpp"

namespace compare {

namespace {

using command_line::joined;
using command_line::named;
using command_line::parse_list;
using command_line::parse_number;

constexpr std::string_view default_shape_names[] = {"granite-1b-a400m", "qwen3-30b-a3b"};
const std::vector<std::size_t> default_tokens{1, 64, 512};
const std::vector<std::size_t> cost_tokens{1, 8, 64, 512};

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

std::string_view trained_name(const TrainedStrategy& strategy) { return strategy.name; }

std::vector<const TrainedStrategy*> every_trained() {
    std::vector<const TrainedStrategy*> result;
    std::ranges::transform(trained_strategies(), std::back_inserter(result),
                           [](const TrainedStrategy& s) { return &s; });
    return result;
}

/// The strategies of a list that `text` names; `names` are all that may stand there.
template <class S>
std::vector<const S*> parse_names(std::string_view text, const std::vector<const S*>& all,
                                  const std::vector<std::string_view>& names) {
    auto found = parse_list(text, all, [&](std::string_view part) -> const S* {
        const std::string_view name = named("--strategies", part, names, [](std::string_view each) { return each; });
        const auto place = std::ranges::find(all, name, [](const S* strategy) { return strategy->name; });
        return place == all.end() ? nullptr : *place;
    });
    std::erase(found, nullptr);
    return found;
}

/// Names of readers and, where models are trained, of what they are trained with: each list gets those it has.
void parse_strategies(std::string_view text, Options& options) {
    std::vector<std::string_view> names;
    std::ranges::transform(strategies(), std::back_inserter(names), strategy_name);
    if (options.train) {
        std::ranges::transform(trained_strategies(), std::back_inserter(names), trained_name);
        options.trained = parse_names(text, every_trained(), names);
    }
    options.strategies = parse_names(text, every_strategy(), names);
}

const std::string head =
    "usage: moe_compare [options]\n"
    "Compares ways to choose experts: speed, balance of the load, quality of a small model, and collapse.\n"
    "With --cost: what mixtures of experts cost and gain against dense models, in a few seconds.\n"
    "NAMES and NUMBERS are lists with commas; `all` stands for the default.\n";

/// Describes the command line to `parser`, which writes into `options`.
void describe(command_line::Parser& parser, Options& options) {
    using Text = const std::string&;
    const auto file = [&](const std::string& name, std::string& path, const std::string& help) {
        const auto set = [name, &path](Text text) {
            moe::ensure(!text.empty(), moe::ErrorCode::range, "--", name.c_str(), " needs the name of a file");
            path = text;
        };
        parser.option(name, "FILE", set, help);
    };
    parser.flag("cost", options.cost,
                "parameters, memory, bytes and operations a token of named models, and the\n"
                "speed this machine's limits allow, beside dense models; nothing else");
    parser.flag("quick", options.quick, "one shape at 1 and 64 tokens, fewer repetitions, less text");
    parser.option(
        "shapes", "NAMES",
        [&](Text text) {
            options.shapes = parse_list(text, default_shapes(), [](std::string_view part) {
                return bench::find_shape(named("--shapes", part, bench::shapes(), shape_name).name);
            });
        },
        "whose speed is measured, of: " + joined(bench::shapes(), shape_name) +
            "\n(default: " + joined(default_shape_names, [](std::string_view name) { return name; }) + ")");
    parser.option(
        "strategies", "NAMES", [&](Text text) { parse_strategies(text, options); }, "(default: all, see --list)");
    parser.flag("train", options.train,
                "also train a small model with each strategy; this takes half an hour and can\n"
                "be stopped and started again where --runs is given");
    parser.option(
        "seeds", "N", [&](Text text) { options.seeds = parse_number<std::size_t>("--seeds", text, 1, 100); },
        "trainings of each strategy (default: 3, with --quick 1)");
    parser.option(
        "steps", "N", [&](Text text) { options.steps = parse_number<std::size_t>("--steps", text, 1, 1'000'000); },
        "of a training (default: 1000, with --quick 20)");
    parser.option(
        "runs", "DIR",
        [&](Text text) {
            moe::ensure(!text.empty(), moe::ErrorCode::range, "--runs needs the name of a folder");
            options.runs = text;
        },
        "keep finished trainings there, and take those that are there");
    parser.option(
        "tokens", "NUMBERS",
        [&](Text text) {
            const std::vector<std::size_t>& all = options.cost ? cost_tokens : default_tokens;
            options.tokens = parse_list(
                text, all, [](std::string_view part) { return parse_number<std::size_t>("--tokens", part, 1, 8192); });
        },
        "tokens a batch (default: 1,64,512; with --cost 1,8,64,512)");
    parser.option(
        "distribution", "NAME",
        [&](Text text) { options.distribution = named("--distribution", text, all_distributions, distribution_name); },
        "how often experts are favourites where speed is measured: uniform, zipf\nor one-hot");
    parser.option(
        "seed", "N", [&](Text text) { options.seed = parse_number<std::uint64_t>("--seed", text, 0, UINT64_MAX); },
        "of everything random; the same seed gives the same routing (default: 1)");
    parser.option(
        "threads", "N",
        [&](Text text) { options.threads = parse_number<std::size_t>("--threads", text, 1, bench::most_threads()); },
        "(default: one for each processor)");
    file("json", options.json, "write all figures there");
    file("csv", options.csv, "write all figures there");
    file("html", options.html, "write a page with plots there");
    parser.flag("list", options.list, "name the strategies and shapes and stop");
    parser.flag("help", options.help,
                "print this\n--benchmark_... are options of Google Benchmark, which carries the times, e.g.\n"
                "--benchmark_out=FILE");
    parser.pass_on("--benchmark_", options.google);
}

/// What is of no use beside --cost: better refused than ignored.
void check_cost(std::span<const char* const> arguments) {
    for (const std::string_view argument : arguments) {
        for (const std::string_view other :
             {"--shapes", "--strategies", "--distribution", "--seed", "--train", "--benchmark_"}) {
            moe::ensure(!argument.starts_with(other), moe::ErrorCode::range,
                        "--cost compares no strategies and has no ",
                        other == "--benchmark_" ? "options of Google Benchmark" : std::string(other));
        }
    }
}

/// What is of no use without --train.
void check_training(std::span<const char* const> arguments) {
    for (const std::string_view argument : arguments) {
        for (const std::string_view other : {"--seeds", "--steps"}) {
            moe::ensure(!argument.starts_with(other), moe::ErrorCode::range, other, " is of trainings: give --train");
        }
    }
}

bool given(std::span<const char* const> arguments, std::string_view flag) {
    return std::ranges::find(arguments, flag) != arguments.end();
}

Options defaults(bool quick, bool cost, bool train) {
    Options options;
    options.cost = cost;  // already here, for what their other options mean
    options.train = train;
    options.trained = every_trained();
    options.shapes = default_shapes();
    options.strategies = every_strategy();
    options.tokens = default_tokens;
    if (quick) {
        options.shapes.resize(1);
        options.tokens = {1, 64};
        options.seeds = 1;
    }
    if (cost) {
        options.tokens = cost_tokens;
    }
    options.threads = bench::default_threads();
    return options;
}

}  // namespace

Options parse_options(std::span<const char* const> arguments) {
    Options options = defaults(given(arguments, "--quick"), given(arguments, "--cost"), given(arguments, "--train"));
    command_line::Parser parser(head);
    describe(parser, options);
    parser.parse(arguments);
    if (options.cost) {
        check_cost(arguments);
    }
    if (!options.train) {
        check_training(arguments);
    }
    return options;
}

std::string usage() {
    Options options;
    command_line::Parser parser(head);
    describe(parser, options);
    return parser.help();
}

std::string list() {
    std::string text = "strategies (* looks at the whole batch)\n";
    for (const Strategy& strategy : strategies()) {
        text += bench::formatted("  %-20.*s%s %.*s\n", static_cast<int>(strategy.name.size()), strategy.name.data(),
                                 strategy.causal ? " " : "*", static_cast<int>(strategy.description.size()),
                                 strategy.description.data());
    }
    text += left_out();
    text += "strategies that a model is trained with (* looks at later tokens)\n";
    for (const TrainedStrategy& strategy : trained_strategies()) {
        text += bench::formatted("  %-20.*s%s %.*s\n", static_cast<int>(strategy.name.size()), strategy.name.data(),
                                 strategy.causal ? " " : "*", static_cast<int>(strategy.description.size()),
                                 strategy.description.data());
    }
    text += "shapes\n";
    for (const bench::Shape& shape : bench::shapes()) {
        text += bench::formatted("  %-20.*s  %zu experts, %zu a token, d_model %zu, d_ff %zu\n",
                                 static_cast<int>(shape.name.size()), shape.name.data(), shape.n_experts, shape.top_k,
                                 shape.d_model, shape.d_ff);
    }
    return text;
}

}  // namespace compare
