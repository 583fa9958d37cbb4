#include <algorithm>
#include <array>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "io/gguf_support.hpp"
#include "moe/io/gguf_file.hpp"
#include "support/catch.hpp"

namespace moe_test::gguf_truncation_test {

namespace {

using moe::ErrorCode;
using moe::GgufFile;
using moe_test::Bytes;
using namespace moe_test::raw_gguf;

/// Small files that differ in what they end with and how it is aligned.
std::vector<Bytes> valid_files() {
    const std::vector<std::string> entries{
        entry("general.architecture", 8, text("llama")), entry("flag", 7, number(true)),
        array_entry("tokens", 8, 3, text("a") + text("") + text("\xE2\x82\xAC")),
        array_entry("scores", 6, 2, number(0.5F) + number(-1.0F)), entry("f64", 12, number(2.0))};
    std::vector<std::string> aligned = entries;
    aligned.push_back(u32_entry("general.alignment", 8));
    return {
        file(entries, {tensor("blk.0.ffn_up_exps.weight", {32, 2, 2}, 2, 0), tensor("b", {3, 2}, 0, 96)}, data(128)),
        file(aligned, {tensor("w", {256}, 14, 0), tensor("s", {}, 1, 216), tensor("e", {4, 0}, 0, 224)}, data(224), 8),
        file({}, {tensor("only", {32, 1, 1, 1}, 39, 0)}, data(32)),
        file({array_entry("empty", 10, 0, "")}, {tensor("x", {5}, 24, 32), tensor("y", {5}, 30, 0)}, data(64)),
    };
}

/// Reads everything there is in a file.
void read_all(const GgufFile& file, std::span<const std::byte> bytes) {
    for (const moe::GgufTensor& tensor : file.tensors()) {
        moe::ensure(tensor.bytes.data() >= bytes.data() &&
                        tensor.bytes.data() + tensor.bytes.size() <= bytes.data() + bytes.size(),
                    ErrorCode::capacity, "a tensor lies outside of the file");
        if (tensor.type->decode != nullptr) {
            moe::ensure(tensor.to_float_vector().size() == tensor.rows() * tensor.row_values(), ErrorCode::capacity,
                        "a tensor has another size");
        }
    }
    for (const moe::GgufValue& value : file.metadata()) {
        switch (value.type) {
            case moe::GgufType::string: (void)value.to_vector<std::string>(); break;
            case moe::GgufType::boolean: (void)value.to_vector<bool>(); break;
            case moe::GgufType::f32:
            case moe::GgufType::f64: (void)value.to_vector<double>(); break;
            default: (void)moe_test::caught([&] { (void)value.to_vector<std::int64_t>(); }); break;
        }
    }
}

}  // namespace

TEST_CASE("every proper prefix of a valid GGUF file is reported as truncated", "[io][gguf]") {
    for (const Bytes& whole : valid_files()) {
        const GgufFile complete = GgufFile::parse(whole);
        read_all(complete, whole);
        REQUIRE(complete.tensors().size() + complete.metadata().size() > 0);
        for (std::size_t size = 0; size < whole.size(); ++size) {
            INFO("prefix of " << size << " of " << whole.size() << " bytes");
            // A copy of its own, so that a sanitiser sees a read past its end.
            const Bytes prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
            const auto error = moe_test::caught([&] { (void)GgufFile::parse(prefix); });
            REQUIRE(error.has_value());
            REQUIRE(static_cast<int>(error->code) == static_cast<int>(ErrorCode::truncated));
        }
    }
}

TEST_CASE("every prefix of metadata alone is refused, but for its padding", "[io][gguf]") {
    const std::string text_of_file = head(0, 2) + u32_entry("a", 1) + array_entry("b", 8, 2, text("x") + text("y"));
    const Bytes whole = bytes_of(padded(text_of_file));
    REQUIRE(text_of_file.size() % 32 != 0);
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        const Bytes prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        const bool complete = size == whole.size() || size == text_of_file.size();
        INFO("prefix of " << size << " of " << whole.size() << " bytes");
        CHECK(moe_test::caught([&] { (void)GgufFile::parse(prefix); }).has_value() != complete);
    }
}

TEST_CASE("every truncation of a GGUF file on disk is reported with its name", "[io][gguf]") {
    const Bytes whole = valid_files().front();
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("cut.gguf");
    for (std::size_t size = 0; size < whole.size(); size += 13) {
        moe_test::write_file(path, std::span(whole).first(size));
        for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
            const auto error = moe_test::caught([&] { (void)GgufFile::open(path, mode); });
            REQUIRE(error.has_value());
            REQUIRE(static_cast<int>(error->code) == static_cast<int>(ErrorCode::truncated));
            REQUIRE_THAT(error->text, moe_test::contains("cut.gguf"));
        }
    }
}

TEST_CASE("a GGUF file with any one byte changed is read within its bounds or refused", "[io][gguf]") {
    for (const Bytes& whole : valid_files()) {
        std::size_t refused = 0;
        for (std::size_t at = 0; at < whole.size(); ++at) {
            for (const unsigned flip : {0x01U, 0x02U, 0x08U, 0x10U, 0x40U, 0x80U, 0xFFU}) {
                Bytes changed = whole;
                changed[at] ^= static_cast<std::byte>(flip);
                const auto error =
                    moe_test::caught([&] { read_all(GgufFile::parse(changed, moe::Strictness::lenient), changed); });
                refused += error.has_value() ? 1U : 0U;
                const bool inside = !error || error->code != ErrorCode::capacity;
                REQUIRE(inside);
            }
        }
        CHECK(refused > 7 * 24 / 2);  // most of the head matters
    }
}

TEST_CASE("GGUF files with several bytes changed, inserted or taken out are read within their bounds or refused",
          "[io][gguf]") {
    constexpr std::size_t rounds = 20000;
    const std::vector<Bytes> files = valid_files();
    // numbers that parsers stumble over
    const std::array<std::uint64_t, 8> numbers{
        0,           1,           ~std::uint64_t{0},      std::uint64_t{1} << 63U, std::uint64_t{1} << 32U,
        0x7FFFFFFFU, 0xFFFFFFE0U, std::uint64_t{1} << 61U};
    std::mt19937_64 random(20260801);
    const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
    std::size_t refused = 0;
    for (std::size_t round = 0; round < rounds; ++round) {
        Bytes changed = files[below(files.size())];
        for (std::size_t i = 0; i <= below(4); ++i) {
            const std::size_t at = below(changed.size());
            const auto position = changed.begin() + static_cast<std::ptrdiff_t>(at);
            switch (below(4)) {
                case 0: changed[at] = static_cast<std::byte>(below(256)); break;
                case 1: changed.insert(position, 1 + below(16), static_cast<std::byte>(below(256))); break;
                case 2:
                    changed.erase(position, position + static_cast<std::ptrdiff_t>(
                                                           std::min(changed.size() - at - 1, 1 + below(16))));
                    break;
                default: {
                    const std::string bytes = u64(numbers[below(numbers.size())]);
                    for (std::size_t k = 0; k < bytes.size() && at + k < changed.size(); ++k) {
                        changed[at + k] = static_cast<std::byte>(bytes[k]);
                    }
                }
            }
        }
        const auto strictness = below(2) == 0 ? moe::Strictness::strict : moe::Strictness::lenient;
        const auto error = moe_test::caught([&] { read_all(GgufFile::parse(changed, strictness), changed); });
        refused += error.has_value() ? 1U : 0U;
        const bool inside = !error || error->code != ErrorCode::capacity;
        REQUIRE(inside);
    }
    CHECK(refused > rounds / 4);
    CHECK(refused < rounds);
}

}  // namespace moe_test::gguf_truncation_test
