#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/gguf_support.hpp"
#include "moe/io/gguf_file.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"

namespace moe_test::gguf_allocation_test {

namespace {

using moe::ErrorCode;
using moe::GgufFile;
using moe_test::Bytes;
using namespace moe_test::raw_gguf;

constexpr std::size_t mebibyte = std::size_t{1} << 20U;

/// Three bytes, others for each number below 2^21, none of them zero.
std::string short_name(std::size_t i) {
    return {static_cast<char>(0x80U | (i & 0x7FU)), static_cast<char>(0x80U | ((i >> 7U) & 0x7FU)),
            static_cast<char>(0x80U | ((i >> 14U) & 0x7FU))};
}

/// As many of what `piece` makes as fit into nearly a mebibyte.
template <class Piece>
std::vector<std::string> as_many(Piece piece) {
    std::vector<std::string> result;
    for (std::size_t bytes = 1000; bytes + piece(result.size()).size() < mebibyte;) {
        result.push_back(piece(result.size()));
        bytes += result.back().size();
    }
    return result;
}

}  // namespace

TEST_CASE("a file below a mebibyte makes nobody allocate 64", "[io][gguf]") {
    const auto tensors = as_many([](std::size_t i) { return tensor(short_name(i), {}, 24, 32 * i); });
    const auto with_shapes = as_many([](std::size_t i) { return tensor(short_name(i), {1, 1, 1, 0}, 0, 0); });
    const auto entries = as_many([](std::size_t i) { return entry(short_name(i), 0, "x"); });
    const std::string strings(mebibyte - 1000, '\0');  // of no bytes each
    // the counts may both be as large as the file allows, whatever then follows
    const std::string counts = head((mebibyte - 24) / 25, (mebibyte - 24) / 14) + std::string(mebibyte - 24, '\xFF');
    const std::vector<Bytes> files{
        file({}, tensors),
        file({}, with_shapes),
        file(entries, {}),
        file({array_entry("k", 8, strings.size() / 8, strings)}, {}),
        bytes_of(counts),
        bytes_of(head(0, 1) + text("k") + u32(9) + u32(8) + u64((mebibyte - 64) / 8) +
                 std::string(mebibyte - 64, '\0')),
    };
    std::size_t refused = 0;
    for (const Bytes& bytes : files) {
        REQUIRE(bytes.size() <= mebibyte);
        REQUIRE(bytes.size() > mebibyte * 9 / 10);
        const std::size_t allocated = moe_test::bytes_allocated_by([&] {
            const auto error = moe_test::caught([&] {
                const GgufFile file = GgufFile::parse(bytes);
                for (const moe::GgufValue& value : file.metadata()) {
                    if (value.type == moe::GgufType::string) {
                        (void)value.to_vector<std::string>();
                    }
                }
            });
            refused += error.has_value() ? 1U : 0U;
        });
        CHECK(allocated < 64 * mebibyte);
    }
    CHECK(refused == 2);  // the tensors have no data, the counts no names
}

TEST_CASE("opening a file of 40 GiB takes memory for its header alone", "[io][gguf]") {
    constexpr std::uint64_t gibibyte = std::uint64_t{1} << 30U;
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("large.gguf");
    const Bytes header = file({}, {tensor("a", {gibibyte, 20}, 24, 0), tensor("b", {gibibyte, 20}, 24, 20 * gibibyte)});
    moe_test::write_file(path, header);
    std::filesystem::resize_file(path, header.size() + 40 * gibibyte);  // what was not written takes no room
    const std::size_t allocated = moe_test::bytes_allocated_by([&] {
        const GgufFile file = GgufFile::open(path);
        CHECK(file.at("b").bytes.back() == std::byte{0});
        CHECK(file.at("b").bytes.size() == 20 * gibibyte);
    });
    CHECK(allocated < mebibyte);
}

}  // namespace moe_test::gguf_allocation_test
