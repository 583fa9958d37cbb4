#include "cost_table.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "text.hpp"

namespace compare {

namespace {

constexpr std::string_view indent = "  ";
constexpr std::string_view shown_format = "bf16";

constexpr const char* introduction =
    "\nwhat a mixture of experts costs and gains, beside dense models\n\n"
    "  A mixture holds all its experts in memory and computes a few of them for each token. Its memory is that of a\n"
    "  dense model of its total size. A token by itself reads and computes no more than in a dense model of its "
    "active\n"
    "  size. Tokens of a batch take different experts, so a batch reads more: of E experts, T tokens that take K each\n"
    "  need E (1 - (1 - K/E)^T), if all are equally likely. With many tokens the mixture reads all, shares that among\n"
    "  them, and its arithmetic is still that of the active size.\n";

std::string limits(const std::vector<CostMachine>& machines) {
    std::string text;
    for (const CostMachine& machine : machines) {
        text += "\n  limits of this machine: " + rounded(1e-9 * machine.bytes_per_second) + " GB/s read from memory, " +
                rounded(1e-9 * machine.flops_per_second) + " GFLOP/s in float32, " +
                rounded(1e-9 * machine.int8_flops_per_second) + " in int8 and int4,\n  " +
                (machine.memory_bytes > 0 ? rounded(1e-9 * machine.memory_bytes) : "-") + " GB of memory\n";
    }
    return text;
}

std::string number(std::size_t value) { return value == 0 ? "-" : std::to_string(value); }

std::string billions(double value) { return rounded(1e-9 * value); }

/// "reported" models say so beside their names.
std::string name_of(std::string_view model, std::string_view kind) {
    const std::string mark = kind == "reported" ? "reported: " : kind == "layer" ? "one layer: " : "";
    return mark + printable(model);
}

std::string sizes_text(const Report& report) {
    if (report.cost_models.empty()) {
        return "";
    }
    const double memory = report.cost_machine.empty() ? 0 : report.cost_machine.front().memory_bytes;
    bool marked = false;
    const auto bytes = [&](double value) {
        const bool beyond = memory > 0 && value > memory;
        marked = marked || beyond;
        return billions(value) + (beyond ? "!" : " ");
    };
    Grid grid({"model", "layers", "experts", "a token", "total", "active", "f32 ", "bf16 ", "f16 ", "int8 ", "int4 "});
    for (const CostModelRow& row : report.cost_models) {
        grid.add({name_of(row.model, row.kind), number(row.layers), number(row.experts), tally(row.experts_per_token),
                  billions(row.total_parameters), billions(row.active_parameters), bytes(row.bytes_f32),
                  bytes(row.bytes_bf16), bytes(row.bytes_f16), bytes(row.bytes_int8), bytes(row.bytes_int4)});
    }
    const auto has = [&](std::string_view kind) {
        return std::ranges::find(report.cost_models, kind, &CostModelRow::kind) != report.cost_models.end();
    };
    return "\nsizes\n" + grid.text(indent) +
           "\n  layers: those with experts; experts of a layer, and how many of them a token takes\n"
           "  total, active: billions of parameters, of the whole model (attention and embeddings too), and those "
           "that\n"
           "  take part for one token; f32 to int4: GB of memory with all weights in this format\n" +
           (marked ? "  ! more than this machine has\n" : "") +
           (has("layer")
                ? "  one layer: of a preset or shape, without anything beside it; its costs are in the files alone\n"
                : "") +
           (has("reported") ? "  reported: by others than the maker, never confirmed; the files say what is assumed\n"
                            : "");
}

/// At most three of the numbers of tokens: the first, one in the middle, the last.
std::vector<std::size_t> shown_tokens(const std::vector<CostRow>& rows) {
    std::vector<std::size_t> tokens;
    for (const CostRow& row : rows) {
        if (std::ranges::find(tokens, row.tokens) == tokens.end()) {
            tokens.push_back(row.tokens);
        }
    }
    return tokens.size() <= 3 ? tokens : std::vector{tokens.front(), tokens[tokens.size() / 2], tokens.back()};
}

std::string batch_text(const std::vector<CostRow>& rows, std::size_t tokens) {
    Grid grid({"model", "experts", "GB", "active", "total", "GFLOP", "total", "tokens/s ", "active", "total"});
    for (const CostRow& row : rows) {
        if (row.tokens == tokens && row.format == shown_format && row.kind != "layer") {
            grid.add({name_of(row.model, row.kind), rounded(row.distinct_experts) + " of " + number(row.experts),
                      billions(row.mixture.bytes), billions(row.active.bytes), billions(row.total.bytes),
                      billions(row.mixture.flops), billions(row.total.flops),
                      rounded(row.mixture.tokens_per_second) + (row.fits ? " " : "!"),
                      rounded(row.active.tokens_per_second), rounded(row.total.tokens_per_second)});
        }
    }
    return "\ncost: " + std::string(shown_format) + ", " + std::to_string(tokens) +
           (tokens == 1 ? " token" : " tokens") + "\n" + grid.text(indent);
}

}  // namespace

std::string cost_text(const Report& report) {
    if (report.cost.empty() && report.cost_models.empty()) {
        return "";
    }
    std::string text = introduction + limits(report.cost_machine) + sizes_text(report);
    for (const std::size_t tokens : shown_tokens(report.cost)) {
        text += batch_text(report.cost, tokens);
    }
    return text +
           "\n  experts of a layer that so many tokens in one batch need\n"
           "  GB, GFLOP: weights read and operations done for a token, by the mixture, then by a dense model of equal\n"
           "  active size (as many operations as the mixture) and by one of equal total size\n"
           "  tokens/s: at most, by the limits of this machine, of all three; attention's cache and what is done with\n"
           "  it are not in these figures; ! does not fit this machine, whose limits are taken all the same\n"
           "  other formats and numbers of tokens are in the files (--json, --csv, --html)\n";
}

}  // namespace compare
