#include "bars.hpp"

#include <algorithm>
#include <optional>

#include "formatted.hpp"

namespace bench {

namespace {

using Kind = Bar::Kind;

/// The limits of one format: at 1 token, from 8 to 128, at 512 and at 2048. 0: none.
struct Limits {
    double one_token;
    double roofline;
    double peak_512;
    double peak_2048;
};

Limits limits_of(Format format, BarTable table) {
    if (table == BarTable::avx2) {
        return format == Format::f32 ? Limits{0.88, 0, 0.70, 0} : Limits{};
    }
    switch (format) {
        case Format::f32: return {0.93, 0.75, 0.66, 0.74};
        case Format::bf16:
        case Format::f16: return {0.90, 0.72, 0.66, 0.72};
        case Format::int8: return {0.90, 0.65, 0.46, 0.52};
        case Format::int4: return {0.82, 0.60, 0.42, 0.48};
    }
    return {};
}

bool has_bars(const Row& row, BarTable table) {
    return table != BarTable::none && !row.wrong && std::ranges::count(bar_shapes, row.shape->name) > 0 &&
           row.n_experts == row.shape->n_experts && (row.compute != Compute::exact || !quantized(row.format));
}

std::optional<Bar> speed_bar(const Row& row, BarTable table) {
    const Limits limits = limits_of(row.format, table);
    Bar bar{};
    if (row.tokens == 1) {
        bar = {Kind::read, row.fraction_of_read(), limits.one_token};
    } else if (row.tokens >= 8 && row.tokens <= 128) {
        bar = {Kind::roofline, row.fraction_of_roofline(), limits.roofline};
    } else if (row.compute == Compute::bf16 && row.tokens >= 512) {
        bar = {Kind::roofline, row.fraction_of_roofline(), row.tokens == 512 ? 0.62 : 0.55};
    } else if (row.tokens == 512 || row.tokens == 2048) {
        bar = {Kind::peak, row.fraction_of_peak(), row.tokens == 512 ? limits.peak_512 : limits.peak_2048};
    }
    return bar.limit > 0 ? std::optional(bar) : std::nullopt;
}

/// One kind of limit for all formats: a line with the worst row.
std::string worst_line(std::span<const Row> rows, BarTable table, Kind kind, const char* what) {
    std::size_t met = 0;
    std::size_t all = 0;
    std::string worst;
    double excess = 0;
    for (const Row& row : rows) {
        for (const Bar& bar : bars_of(row, table)) {
            if (bar.kind != kind) {
                continue;
            }
            ++all;
            met += bar.met() ? 1U : 0U;
            const double relative = kind == Kind::threads ? bar.limit / bar.figure : bar.figure / bar.limit;
            if (relative > excess) {
                excess = relative;
                worst = formatted("%.3f against %.3g: ", bar.figure, bar.limit) +
                        row_name(*row.shape, row.format, row.compute, row.tokens);
            }
        }
    }
    return all == 0 ? "" : formatted("%s: met by %zu of %zu, the nearest or worst is ", what, met, all) + worst + "\n";
}

/// "  0.912 ", "  0.612!" if missed, "        " where there is no row.
std::string cell(std::span<const Row> rows, BarTable table, const Shape& shape, Format format, std::size_t tokens) {
    for (const Row& row : rows) {
        if (row.shape == &shape && row.format == format && row.tokens == tokens && has_bars(row, table)) {
            if (const auto bar = speed_bar(row, table)) {
                return formatted("%9.3f%c%c", bar->figure, bar->met() ? ' ' : '!', row.note.empty() ? ' ' : '~');
            }
        }
    }
    return formatted("%9s  ", "-");
}

/// The lines of one format; empty where no row of it has a bar.
std::string format_lines(std::span<const Row> rows, BarTable table, Format format) {
    const Limits limits = limits_of(format, table);
    std::string text;
    for (const std::string_view name : bar_shapes) {
        const Shape& shape = *find_shape(name);
        if (std::ranges::none_of(rows, [&](const Row& row) {
                return row.shape == &shape && row.format == format && has_bars(row, table) && speed_bar(row, table);
            })) {
            continue;
        }
        text += formatted("      %-18s", name.data());
        for (const std::size_t tokens : bar_tokens) {
            text += cell(rows, table, shape, format, tokens);
        }
        text += "\n";
    }
    if (text.empty()) {
        return "";
    }
    std::string head = formatted("%-5s %-18s", info(format).name.data(), "at least");
    for (const double limit :
         {limits.one_token, limits.roofline, limits.roofline, limits.roofline, limits.peak_512, limits.peak_2048}) {
        head += limit > 0 ? formatted("%9.2f  ", limit) : formatted("%9s  ", "-");
    }
    return head + "\n" + text;
}

}  // namespace

BarTable built_table() noexcept {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
    return BarTable::avx512_vnni;
#elif defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
    return BarTable::avx2;
#else
    return BarTable::none;
#endif
}

std::vector<Bar> bars_of(const Row& row, BarTable table) {
    std::vector<Bar> bars;
    if (!has_bars(row, table)) {
        return bars;
    }
    if (const auto bar = speed_bar(row, table)) {
        bars.push_back(*bar);
    }
    if (row.threads == 4 && row.tokens == scaling_tokens && row.one_thread.samples > 0) {
        bars.push_back({Kind::threads, row.speedup_threads(), 3.4});
    }
    if (row.tokens == scaling_tokens && row.one_expert.samples > 0) {
        bars.push_back({Kind::one_expert, row.one_expert_slowdown(), 1.15});
    }
    if (row.tokens >= 64) {
        bars.push_back({Kind::routing, row.route_share, 0.05});
    }
    if (row.tokens == 2048 && row.shape->name == "mixtral-8x7b") {
        bars.push_back({Kind::workspace, static_cast<double>(row.workspace_bytes) / 1e6, 400});
    }
    return bars;
}

std::string bars_text(std::span<const Row> rows, BarTable table) {
    std::size_t met = 0;
    std::size_t all = 0;
    for (const Row& row : rows) {
        for (const Bar& bar : bars_of(row, table)) {
            ++all;
            met += bar.met() ? 1U : 0U;
        }
    }
    if (all == 0) {
        return "\nbars: none of these rows has one in this build\n";
    }
    std::string text =
        "\nbars: fraction of memory read at 1 token, of the roofline at 8 to 128, of the peak beyond; "
        "! missed, ~ the note of the row has a reason not to believe it\n";
    text += formatted("%-24s", "tokens");
    for (const std::size_t tokens : bar_tokens) {
        text += formatted("%9zu  ", tokens);
    }
    text += "\n";
    for (const FormatInfo& format : all_formats) {
        text += format_lines(rows, table, format.format);
    }
    text += worst_line(rows, table, Kind::threads, "4 threads, times as fast as 1");
    text += worst_line(rows, table, Kind::one_expert, "all tokens on one expert, times as slow");
    text += worst_line(rows, table, Kind::routing, "share of routing and plan");
    text += worst_line(rows, table, Kind::workspace, "MB of workspace for 2048 tokens of Mixtral");
    return text + formatted("%zu of %zu bars are met\n", met, all);
}

}  // namespace bench
