#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/gguf_support.hpp"
#include "io/support.hpp"
#include "moe/io/gguf_file.hpp"
#include "moe/io/packed_file.hpp"
#include "moe/io/peft.hpp"
#include "moe/io/safetensors.hpp"
#include "moe/stats/trace.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"

namespace moe_test::readers_allocation_test {

namespace {

using moe_test::Bytes;
using moe_test::bytes_allocated_by;
using moe_test::file_of;

constexpr std::size_t mebibyte = std::size_t{1} << 20U;

/// What `begin`, as many of what `piece` makes as nearly fill a mebibyte, with commas between them, and `end` are.
template <class Piece>
std::string filled(std::string begin, Piece piece, const std::string& end) {
    std::string next = piece(std::size_t{0});
    for (std::size_t i = 1; begin.size() + next.size() + end.size() + 100 < mebibyte; ++i) {
        begin += next;
        next = "," + piece(i);
    }
    return begin + end;
}

/// Less than 64 MiB for input of nearly one; whether it was taken.
template <class Read>
bool reads_within_limit(const Bytes& bytes, Read&& read) {
    REQUIRE(bytes.size() <= mebibyte);
    REQUIRE(bytes.size() > mebibyte * 9 / 10);
    bool refused = false;
    const std::size_t allocated =
        bytes_allocated_by([&] { refused = moe_test::caught([&] { read(bytes); }).has_value(); });
    CHECK(allocated < 64 * mebibyte);
    return !refused;
}

}  // namespace

TEST_CASE("a safetensors file below a mebibyte makes nobody allocate 64", "[io][safetensors]") {
    const std::string field = R"(:{"dtype":"U8","data_offsets":[0,0],"shape":[)";
    const auto named = [&](const std::string& shape) {
        return [&field, shape](std::size_t i) { return "\"" + std::to_string(i) + "\"" + field + shape + "]}"; };
    };
    const auto text = [](std::size_t i) { return "\"" + std::to_string(i) + "\":\"\""; };
    const auto one = [](std::size_t) { return std::string("1"); };
    std::string ones = "1";
    for (std::size_t i = 1; i < 63; ++i) {
        ones += ",1";
    }
    const auto read = [](const Bytes& bytes) { (void)moe::SafetensorsFile::parse(bytes, moe::Strictness::lenient); };
    CHECK(reads_within_limit(file_of(filled("{", named("0"), "}")), read));
    CHECK(reads_within_limit(file_of(filled("{", named("0," + ones), "}")), read));
    CHECK(reads_within_limit(file_of(filled("{\"a\":{\"x\":[", one, "]," + field.substr(2) + "0]}}")), read));
    CHECK(reads_within_limit(file_of("{\"" + std::string(mebibyte - 200, 'a') + "\"" + field + "0]}}"), read));
    // more dimensions, or entries, than a file may have: refused, but not before they are read
    CHECK_FALSE(reads_within_limit(file_of(filled("{\"a\"" + field, one, "]}}")), read));
    CHECK_FALSE(reads_within_limit(file_of(filled("{\"__metadata__\":{", text, "}}")), read));
    CHECK_FALSE(reads_within_limit(file_of(filled("{\"a\":{\"shape\":[", one, "")), read));
}

TEST_CASE("values of a GGUF file below a mebibyte take less than 64 decoded", "[io][gguf]") {
    using namespace moe_test::raw_gguf;
    for (const moe::BlockType& type : moe::block_types) {
        if (type.decode == nullptr) {
            continue;
        }
        INFO(type.name);
        const std::size_t blocks = (mebibyte - 1000) / type.block_bytes;
        const Bytes bytes = file({}, {tensor("a", {blocks * type.block_values}, type.number, 0)},
                                 padded(std::string(blocks * type.block_bytes, '\x2A')));
        CHECK(reads_within_limit(bytes, [](const Bytes& whole) {
            const moe::GgufFile opened = moe::GgufFile::parse(whole);
            (void)opened.at("a").to_double_vector();
        }));
    }
}

TEST_CASE("a file of packed experts makes nobody allocate what it announces", "[io][packed]") {
    moe::detail::PackedHeader header;
    header.format = static_cast<std::uint32_t>(moe::StoredFormat::int4);
    header.panel_width = moe::detail::stored_panel_width<moe::Int4>;
    header.group = moe::detail::stored_group<moe::Int4>;
    header.n_experts = header.d_model = header.d_ff = std::uint64_t{1} << 20U;
    header.data_bytes = mebibyte - moe::detail::PackedHeader::bytes;
    const auto head = moe::detail::packed_header_bytes(header);
    Bytes bytes(head.begin(), head.end());
    bytes.resize(mebibyte);
    CHECK_FALSE(reads_within_limit(bytes, [](const Bytes& file) { (void)moe::PackedFile::parse(file); }));
}

TEST_CASE("an adapter below a mebibyte makes nobody allocate 64", "[peft]") {
    constexpr std::size_t ranks = 1U << 17U;
    const std::string end = std::to_string(4 * ranks - 1000);
    const std::string header = R"({"p.lora_A.weight":{"dtype":"F16","shape":[)" + std::to_string(ranks - 250) +
                               R"(,2],"data_offsets":[0,)" + end +
                               R"(]},"p.lora_B.weight":{"dtype":"F16","shape":[2,)" + std::to_string(ranks - 250) +
                               R"(],"data_offsets":[)" + end + "," + std::to_string(8 * ranks - 2000) + "]}}";
    CHECK(reads_within_limit(file_of(header, 8 * ranks - 2000), [](const Bytes& bytes) {
        const moe::SafetensorsFile file = moe::SafetensorsFile::parse(bytes);
        (void)moe::read_peft<double>(file, "p", {1, 2, 2, moe::PeftSide::inputs});
    }));
}

TEST_CASE("a trace below a mebibyte makes nobody allocate 64", "[stats]") {
    const auto trace_of = [](std::uint32_t n_experts, const std::vector<std::uint32_t>& numbers, std::size_t n_plans,
                             std::byte rest, std::size_t n_rest) {
        const moe::TraceWriter<float> writer(n_experts);
        Bytes bytes(writer.bytes().begin(), writer.bytes().end());
        for (std::size_t i = 0; i < n_plans; ++i) {
            for (const std::uint32_t number : numbers) {
                moe::detail::append_little_endian(bytes, number, 4);
            }
        }
        bytes.insert(bytes.end(), n_rest, rest);
        return bytes;
    };
    const auto read = [](const Bytes& bytes) {
        moe::TraceReader<float> reader(bytes);
        moe::RoutingPlan<float> plan;
        while (reader.next(plan)) {
        }
    };
    constexpr std::uint32_t many = mebibyte - 100;
    const std::byte none{0};
    CHECK(reads_within_limit(trace_of(1, {many, 0}, 1, none, many), read));                // tokens without experts
    CHECK(reads_within_limit(trace_of(1024, {0, 0}, mebibyte / 8 - 100, none, 0), read));  // plans without tokens
    // tokens, or assignments, of which there are not enough
    CHECK_FALSE(reads_within_limit(trace_of(moe::max_trace_experts, {many, many}, 1, std::byte{1}, many), read));
    CHECK_FALSE(reads_within_limit(trace_of(moe::max_trace_experts, {1, ~0U}, 1, std::byte{0xFF}, many), read));
}

}  // namespace moe_test::readers_allocation_test
