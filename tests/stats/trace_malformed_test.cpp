#include <moe/stats/trace.hpp>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moe/core/random.hpp"
#include "stats/trace_cases.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::trace_malformed_test {

using moe_test::Bytes;
using moe_test::bytes_of;
using moe_test::random_plan;

namespace {

/// Three plans, the second of them empty.
template <class T>
Bytes small_trace(std::size_t n_experts) {
    moe::TraceWriter<T> writer(n_experts);
    writer.append(random_plan<T>(1, n_experts, 4, 2));
    writer.append(random_plan<T>(2, n_experts, 0, 2));
    writer.append(random_plan<T>(3, n_experts, 1, 130));
    return {writer.bytes().begin(), writer.bytes().end()};
}

/// Reads all plans, each of which must hold its invariants, from memory that ends where the bytes do, so that the
/// sanitizers see a step beyond. The code of the Error that ended it, or nothing.
template <class T>
std::optional<moe::ErrorCode> read_all(const Bytes& bytes, std::size_t* n_plans = nullptr) {
    const auto exact = std::make_unique<std::byte[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), exact.get());
    std::size_t n = 0;
    std::optional<moe::ErrorCode> code;
    try {
        moe::TraceReader<T> reader(std::span<const std::byte>(exact.get(), bytes.size()));
        moe::RoutingPlan<T> plan;
        while (reader.next(plan)) {
            moe::check_plan(plan.view());
            ++n;
        }
    } catch (const moe::Error& error) {
        code = error.code();
    }
    if (n_plans != nullptr) {
        *n_plans = n;
    }
    return code;
}

std::string text_of(const Bytes& bytes) {
    return moe_test::error_of([&] {
               moe::TraceReader<float> reader(bytes);
               moe::RoutingPlan<float> plan;
               while (reader.next(plan)) {
               }
           })
        .text;
}

const Bytes header = bytes_of({0x8A, 'm', 'o', 'e', 't', 'r', 13, 10, 1, 0, 0, 0, 4, 3, 2, 1, 1, 0, 0, 0, 3, 0, 0, 0});

Bytes changed(std::size_t at, int value) {
    Bytes bytes = header;
    bytes[at] = static_cast<std::byte>(value);
    return bytes;
}

Bytes with_record(std::initializer_list<int> record) {
    Bytes bytes = header;
    const Bytes more = bytes_of(record);
    bytes.insert(bytes.end(), more.begin(), more.end());
    return bytes;
}

/// The header with these bytes from `at` on.
Bytes patched(std::size_t at, std::initializer_list<int> values) {
    Bytes bytes = header;
    const Bytes patch = bytes_of(values);
    std::copy(patch.begin(), patch.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
    return bytes;
}

struct Malformed {
    const char* what;
    Bytes trace;
    moe::ErrorCode code;
    const char* fragment;  // of the message
};

/// Records begin with the numbers of tokens and of assignments; counts, experts and weights follow.
std::vector<Malformed> malformed_traces() {
    using moe::ErrorCode;
    return {
        {"empty", {}, ErrorCode::truncated, "it ends at byte 0"},
        {"magic cut off", {header.begin(), header.begin() + 7}, ErrorCode::truncated, "it ends at byte 7"},
        {"no magic", changed(0, 'm'), ErrorCode::header, "it does not begin as a trace does"},
        {"another magic", changed(3, 'x'), ErrorCode::header, "it does not begin as a trace does"},
        {"a packed file", patched(4, {'p', 'k'}), ErrorCode::header, "it does not begin as a trace does"},
        {"read as text", patched(6, {10, 1}), ErrorCode::header, "it does not begin as a trace does"},
        {"version 0", changed(8, 0), ErrorCode::format, "its version is 0, this library reads version 1"},
        {"version 2", changed(8, 2), ErrorCode::format, "its version is 2"},
        {"version byte-swapped", patched(8, {0, 0, 0, 1}), ErrorCode::format, "its version is 16777216"},
        {"no byte order", changed(12, 5), ErrorCode::header, "its byte order mark is 16909061, it must be 16909060"},
        {"the other byte order", patched(12, {1, 2, 3, 4}), ErrorCode::format, "its numbers are big-endian"},
        {"weights of type 0", changed(16, 0), ErrorCode::unknown_type, "no type of weights has the number 0"},
        {"weights of type 3", changed(16, 3), ErrorCode::unknown_type, "no type of weights has the number 3"},
        {"weights of doubles", changed(16, 2), ErrorCode::format, "its weights have 64 bits, asked for are 32"},
        {"no experts", changed(20, 0), ErrorCode::range, "it is of 0 experts, it must be 1 to 1048576"},
        {"an expert too many", patched(20, {1, 0, 16, 0}), ErrorCode::range, "it is of 1048577 experts"},
        {"2^32 - 1 experts", patched(20, {255, 255, 255, 255}), ErrorCode::range, "it is of 4294967295 experts"},
        {"no number of experts",
         {header.begin(), header.begin() + 20},
         ErrorCode::truncated,
         "within its number of experts from byte 20"},
        {"number of tokens cut off", with_record({1, 0, 0}), ErrorCode::truncated, "the number of tokens of a plan"},
        {"number of assignments cut off", with_record({1, 0, 0, 0, 1}), ErrorCode::truncated,
         "the number of assignments of a plan"},
        {"more tokens than bytes", with_record({3, 0, 0, 0, 0, 0, 0, 0, 0, 0}), ErrorCode::truncated,
         "a plan of 3 tokens with 2 bytes left"},
        {"2^32 - 1 tokens", with_record({255, 255, 255, 255, 0, 0, 0, 0}), ErrorCode::truncated,
         "a plan of 4294967295 tokens with 0 bytes left"},
        {"assignments without tokens", with_record({0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}), ErrorCode::layout,
         "a plan of 1 assignments gives its tokens 0"},
        {"fewer assignments than said", with_record({1, 0, 0, 0, 2, 0, 0, 0, 1, 2, 0, 0, 0, 0}), ErrorCode::layout,
         "a plan of 2 assignments gives its tokens 1"},
        {"more assignments than said", with_record({2, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0}), ErrorCode::layout,
         "a plan of 1 assignments gives its first 2 tokens 2"},
        {"counts whose sum wraps to 1", with_record({2, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 15, 2, 0, 0, 0, 0, 0}),
         ErrorCode::layout, "gives its first 1 tokens 4294967295"},
        {"a count of six bytes", with_record({1, 0, 0, 0, 1, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0}),
         ErrorCode::range, "the experts of a token before byte 37 do not fit 32 bits"},
        {"a count of 2^32 + 1", with_record({1, 0, 0, 0, 1, 0, 0, 0, 0x81, 0x80, 0x80, 0x80, 0x10}), ErrorCode::range,
         "do not fit 32 bits"},
        {"a count cut off", with_record({1, 0, 0, 0, 1, 0, 0, 0, 0x80}), ErrorCode::truncated,
         "the experts of a token"},
        {"2^32 - 1 assignments", with_record({1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 15}),
         ErrorCode::truncated, "it ends at byte 37, within the experts of a plan from byte 37"},
        {"an expert too high", with_record({1, 0, 0, 0, 1, 0, 0, 0, 1, 3, 0, 0, 0, 0}), ErrorCode::range,
         "an assignment names expert 3, the experts are 0..2"},
        {"the highest expert", with_record({1, 0, 0, 0, 1, 0, 0, 0, 1, 255, 0, 0, 0, 0}), ErrorCode::range,
         "an assignment names expert 255"},
        {"no weights", with_record({1, 0, 0, 0, 1, 0, 0, 0, 1, 2}), ErrorCode::truncated, "the weights of a plan"},
        {"weights cut off", with_record({1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 0, 0, 0}), ErrorCode::truncated,
         "within the weights of a plan from byte 34"},
        {"bytes behind the last plan", with_record({0, 0, 0, 0, 0, 0, 0, 0, 7}), ErrorCode::truncated,
         "the number of tokens of a plan from byte 32"},
    };
}

}  // namespace

TEST_CASE("a header is what it says, and nothing more is a trace of no plans", "[stats]") {
    CHECK(!read_all<float>(header));
    CHECK(!read_all<double>(changed(16, 2)));
    CHECK(!read_all<float>(with_record({1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 0, 0, 0, 0})));
    const moe::TraceHeader known = moe::read_trace_header(header);
    CHECK(known.weights == moe::TraceWeights::float32);
    CHECK(known.n_experts == 3);
}

TEST_CASE("every malformed trace is refused with its own reason", "[stats]") {
    for (const Malformed& one : malformed_traces()) {
        INFO(one.what);
        const auto code = read_all<float>(one.trace);
        REQUIRE(code.has_value());
        CHECK(static_cast<int>(*code) == static_cast<int>(one.code));
        CHECK_THAT(text_of(one.trace), moe_test::contains(one.fragment) && moe_test::contains("trace: "));
    }
}

TEST_CASE("a trace that ends anywhere but between plans is truncated", "[stats]") {
    const auto check = []<class T>(T) {
        const Bytes whole = small_trace<T>(3);
        std::size_t n_plans = 0;
        CHECK(!read_all<T>(whole, &n_plans));
        CHECK(n_plans == 3);
        std::size_t ends = 0;
        for (std::size_t size = 0; size < whole.size(); ++size) {
            const auto code = read_all<T>({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}, &n_plans);
            if (!code) {
                ++ends;  // behind the header, the first plan, the second
                CHECK(size >= 24);
                CHECK(n_plans == ends - 1);
            } else {
                CHECK(code == moe::ErrorCode::truncated);
            }
        }
        CHECK(ends == 3);
    };
    check(float{});
    check(double{});
}

TEST_CASE("any byte of a header changed gives an error or valid plans", "[stats]") {
    Bytes bytes = small_trace<float>(3);
    std::size_t errors = 0;
    for (std::size_t at = 0; at < 24; ++at) {
        const std::byte old = bytes[at];
        for (int value = 0; value < 256; ++value) {
            bytes[at] = static_cast<std::byte>(value);
            errors += read_all<float>(bytes) ? 1U : 0U;
        }
        bytes[at] = old;
    }
    CHECK(errors >= 20 * 255);  // all but in the number of experts
    CHECK(!read_all<float>(bytes));
}

TEST_CASE("random damage behind the header gives an error or valid plans", "[stats]") {
    const auto check = []<class T>(T, std::size_t n_experts, std::uint64_t rounds) {
        const Bytes whole = small_trace<T>(n_experts);
        std::size_t errors = 0;
        for (std::uint64_t round = 0; round < rounds; ++round) {
            Bytes bytes = whole;
            const std::uint64_t flips = 1 + moe::random_bits(n_experts, 3 * round) % 4;
            for (std::uint64_t flip = 0; flip < flips; ++flip) {
                const std::uint64_t bits = moe::random_bits(n_experts + 1, 4 * round + flip);
                // most where sizes and counts are
                const std::size_t range = bits % 2 == 0 ? 24 : bytes.size() - 24;
                bytes[24 + (bits >> 8U) % range] ^= static_cast<std::byte>(1 + (bits >> 48U) % 255);
            }
            errors += read_all<T>(bytes) ? 1U : 0U;
        }
        CHECK(errors > rounds / 10);
        CHECK(errors < rounds);
    };
    check(float{}, 3, 2000);
    check(float{}, 300, 1000);
    check(double{}, 256, 1000);
    check(double{}, 70000, 100);
}

TEST_CASE("random bytes behind a header are no trace, and no trap", "[stats]") {
    for (std::uint64_t round = 0; round < 2000; ++round) {
        Bytes bytes = header;
        const std::size_t size = moe::random_bits(9, round) % 80;
        for (std::size_t i = 0; i < size; ++i) {
            const std::uint64_t bits = moe::random_bits(round + 100, i);
            bytes.push_back(static_cast<std::byte>(bits % 3 == 0 ? bits >> 8U : (bits >> 8U) % 3));
        }
        (void)read_all<float>(bytes);
    }
    CHECK(!read_all<float>(header));
}

TEST_CASE("a plan that cannot be read leaves the one before as it was", "[stats]") {
    Bytes bytes = small_trace<float>(3);
    moe::RoutingPlan<float> plan;
    bytes.pop_back();
    moe::TraceReader<float> reader(bytes);
    CHECK(reader.next(plan));
    CHECK(reader.next(plan));
    const moe::RoutingPlan<float> before = random_plan<float>(1, 3, 4, 2);
    plan.assign(before.view());
    CHECK(moe_test::error_of([&] { (void)reader.next(plan); }).code == moe::ErrorCode::truncated);
    CHECK(plan.view().n_tokens == 4);
    CHECK(plan.view().n_assignments() == before.view().n_assignments());
}

}  // namespace moe_test::trace_malformed_test
