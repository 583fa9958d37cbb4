#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "support/catch.hpp"

#include "../../benchmarks/bars.hpp"

namespace moe_test::bars_test {

using namespace bench;
using Kind = Bar::Kind;

namespace {

constexpr double least = 1e-9;

/// On probes of 100 FMA operations and 10 bytes a second, of which it reaches the fractions.
Row row_of(const char* shape, Format format, std::size_t tokens, double of_peak, double of_read) {
    Row row;
    row.shape = find_shape(shape);
    row.n_experts = row.shape->n_experts;
    row.format = format;
    row.compute = fastest_compute(format, tokens, {});
    row.tokens = tokens;
    row.threads = 4;
    row.seconds = Statistics({2.0});
    row.fma_peak = 100;
    row.read_bandwidth = 10;
    row.operations = of_peak * 2.0 * 100 * info(row.compute).peak;
    row.weight_bytes = of_read * 2.0 * 10;
    return row;
}

std::vector<Kind> kinds(const std::vector<Bar>& bars) {
    std::vector<Kind> result;
    std::ranges::transform(bars, std::back_inserter(result), &Bar::kind);
    return result;
}

const Bar& bar(const std::vector<Bar>& bars, Kind kind) {
    const auto found = std::ranges::find(bars, kind, &Bar::kind);
    REQUIRE(found != bars.end());
    return *found;
}

}  // namespace

TEST_CASE("a row is held against the limit of its format and token count") {
    const auto of = [](Format format, std::size_t tokens) {
        return bars_of(row_of("olmoe-1b-7b", format, tokens, 0.5, 0.9), BarTable::avx512_vnni);
    };
    for (const auto& [format, one, roofline, at_512, at_2048] : {std::tuple{Format::f32, 0.93, 0.75, 0.66, 0.74},
                                                                 {Format::bf16, 0.90, 0.72, 0.66, 0.72},
                                                                 {Format::f16, 0.90, 0.72, 0.66, 0.72},
                                                                 {Format::int8, 0.90, 0.65, 0.46, 0.52},
                                                                 {Format::int4, 0.82, 0.60, 0.42, 0.48}}) {
        CAPTURE(info(format).name);
        CHECK(bar(of(format, 1), Kind::read).limit == one);
        CHECK(std::abs(bar(of(format, 1), Kind::read).figure - 0.9) < least);
        for (const std::size_t tokens : {8U, 32U, 128U}) {
            CHECK(bar(of(format, tokens), Kind::roofline).limit == roofline);
            CHECK(std::abs(bar(of(format, tokens), Kind::roofline).figure - 0.9) < least);
        }
        CHECK(bar(of(format, 512), Kind::peak).limit == at_512);
        CHECK(bar(of(format, 2048), Kind::peak).limit == at_2048);
        CHECK(std::abs(bar(of(format, 2048), Kind::peak).figure - 0.5) < least);
    }
    CHECK(of(Format::f32, 2).empty());
    CHECK(kinds(of(Format::f32, 64)) == std::vector{Kind::roofline, Kind::routing});
}

TEST_CASE("a bar is met at its limit, from the side it has") {
    CHECK(Bar{Kind::peak, 0.66, 0.66}.met());
    CHECK_FALSE(Bar{Kind::peak, 0.659, 0.66}.met());
    CHECK(Bar{Kind::threads, 3.5, 3.4}.met());
    CHECK_FALSE(Bar{Kind::threads, 3.3, 3.4}.met());
    CHECK(Bar{Kind::one_expert, 1.1, 1.15}.met());
    CHECK_FALSE(Bar{Kind::one_expert, 1.2, 1.15}.met());
    CHECK_FALSE(Bar{Kind::routing, 0.06, 0.05}.met());
}

TEST_CASE("rows without a bar have none") {
    const auto none = [](Row row, BarTable table = BarTable::avx512_vnni) { return bars_of(row, table).empty(); };
    Row row = row_of("qwen3-30b-a3b", Format::int8, 512, 0.5, 0.5);
    CHECK_FALSE(none(row));
    CHECK(none(row, BarTable::none));
    row.compute = Compute::exact;
    CHECK(none(row));
    row.compute = Compute::int8;
    row.n_experts = 100;
    CHECK(none(row));
    row.n_experts = 128;
    row.wrong = true;
    CHECK(none(row));
    CHECK(none(row_of("tiny", Format::f32, 512, 0.5, 0.5)));
}

TEST_CASE("an AVX2 build has bars for float32 alone") {
    const auto of = [](Format format, std::size_t tokens) {
        return kinds(bars_of(row_of("mixtral-8x7b", format, tokens, 0.5, 0.9), BarTable::avx2));
    };
    CHECK(of(Format::f32, 1) == std::vector{Kind::read});
    CHECK(of(Format::f32, 512) == std::vector{Kind::peak, Kind::routing});
    CHECK(of(Format::f32, 8).empty());
    CHECK(of(Format::int8, 1).empty());
}

TEST_CASE("threads and one expert are bars where they were measured, on four threads") {
    Row row = row_of("mixtral-8x7b", Format::f32, scaling_tokens, 0.7, 0.5);
    row.one_thread = Statistics({7.0});
    row.one_expert = Statistics({2.2});
    const auto bars = bars_of(row, BarTable::avx512_vnni);
    CHECK(std::abs(bar(bars, Kind::threads).figure - 3.5) < least);
    CHECK(std::abs(bar(bars, Kind::one_expert).figure - 1.1) < least);
    row.threads = 2;
    CHECK(kinds(bars_of(row, BarTable::avx512_vnni)) == std::vector{Kind::peak, Kind::one_expert, Kind::routing});
}

TEST_CASE("the workspace has a limit for the widest experts and the longest batch") {
    Row row = row_of("mixtral-8x7b", Format::bf16, 2048, 0.7, 0.5);
    row.workspace_bytes = 390'000'000;
    CHECK(std::abs(bar(bars_of(row, BarTable::avx512_vnni), Kind::workspace).figure - 390) < least);
    CHECK(bar(bars_of(row, BarTable::avx512_vnni), Kind::workspace).met());
    row.workspace_bytes = 410'000'000;
    CHECK_FALSE(bar(bars_of(row, BarTable::avx512_vnni), Kind::workspace).met());
    row = row_of("olmoe-1b-7b", Format::bf16, 2048, 0.7, 0.5);
    CHECK(kinds(bars_of(row, BarTable::avx512_vnni)) == std::vector{Kind::peak, Kind::routing});
}

TEST_CASE("the table marks what is missed and counts what is met") {
    std::vector<Row> rows{row_of("qwen3-30b-a3b", Format::f32, 1, 0.1, 0.95),
                          row_of("qwen3-30b-a3b", Format::f32, 8, 0.1, 0.7),
                          row_of("olmoe-1b-7b", Format::int4, 128, 0.1, 0.61)};
    rows[2].route_share = 0.07;
    rows[2].note = "noisy";
    const std::string text = bars_text(rows, BarTable::avx512_vnni);
    INFO(text);
    CHECK(text.find("qwen3-30b-a3b         0.950      0.700!         -") != std::string::npos);
    CHECK(text.find("0.610 ~") != std::string::npos);
    CHECK(text.find("the nearest or worst is 0.070 against 0.05: olmoe-1b-7b/int4/int8/tokens:128") !=
          std::string::npos);
    CHECK(text.find("2 of 4 bars are met") != std::string::npos);
    CHECK(bars_text(rows, BarTable::none).find("none of these rows has one") != std::string::npos);
}

}  // namespace moe_test::bars_test
