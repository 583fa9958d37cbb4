#include <cstdint>
#include <string>
#include <vector>

#include "io/gguf_support.hpp"
#include "moe/io/gguf_shards.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::gguf_shards_test {

namespace {

using moe::ErrorCode;
using moe::GgufShards;
using moe_test::Bytes;
using namespace moe_test::raw_gguf;

/// A shard with one tensor, named `name`, of eight bytes.
Bytes shard(std::uint16_t no, std::uint16_t count, const std::string& name, std::int32_t n_tensors = 3) {
    return file({entry("split.no", 2, number(no)), entry("split.count", 2, number(count)),
                 entry("split.tensors.count", 5, number(n_tensors)), u32_entry("own", no)},
                {tensor(name, {8}, 24, 0)}, data(32));
}

/// Three shards named x-0000i-of-00003.gguf.
struct Split {
    moe_test::TemporaryDirectory directory;
    std::vector<Bytes> shards{shard(0, 3, "c"), shard(1, 3, "a"), shard(2, 3, "b")};

    [[nodiscard]] std::string path(int number) const {
        return directory.file("x-0000" + std::to_string(number) + "-of-00003.gguf");
    }
    void write() const {
        for (int i = 0; i < 3; ++i) {
            moe_test::write_file(path(i + 1), shards[static_cast<std::size_t>(i)]);
        }
    }
};

void check_refused(const std::string& path, ErrorCode code, const std::string& text) {
    const CaughtError error = error_of([&] { (void)GgufShards::open(path); });
    CHECK(static_cast<int>(error.code) == static_cast<int>(code));
    CHECK_THAT(error.text, moe_test::contains(text));
}

}  // namespace

TEST_CASE("shards of a model are read as one, whichever is named", "[io][gguf]") {
    const Split split;
    split.write();
    for (int number = 1; number <= 3; ++number) {
        GgufShards first = GgufShards::open(split.path(number));
        const GgufShards model = std::move(first);
        CHECK(model.files().size() == 3);
        CHECK(model.n_tensors() == 3);
        for (const std::size_t i : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
            const moe::GgufTensor& tensor = model.files()[i].tensors()[0];
            CHECK(model.find(tensor.name) == &tensor);
            CHECK(&model.at(tensor.name) == &tensor);
            CHECK(tensor.bytes[7] == std::byte{7});
        }
        CHECK(model.find("d") == nullptr);
        CHECK(model.metadata_at("own").as<int>() == 0);
        CHECK(model.find_metadata("other") == nullptr);
        const CaughtError tensor = error_of([&] { (void)model.at("d"); });
        CHECK(static_cast<int>(tensor.code) == static_cast<int>(ErrorCode::not_found));
        CHECK_THAT(tensor.text, moe_test::contains("none of the 3 tensors in 3 files is named 'd'"));
        const CaughtError key = error_of([&] { (void)model.metadata_at("other"); });
        CHECK(static_cast<int>(key.code) == static_cast<int>(ErrorCode::not_found));
        CHECK_THAT(key.text, moe_test::contains("'other'"));
    }
}

TEST_CASE("one file is a model too, under any name", "[io][gguf]") {
    const moe_test::TemporaryDirectory directory;
    for (const std::string name : {"a.gguf", "b-00001-of-00003.gguf", "c"}) {
        moe_test::write_file(directory.file(name), file({}, {tensor("w", {8}, 24, 0)}, data(32)));
        const GgufShards model = GgufShards::open(directory.file(name));
        CHECK(model.files().size() == 1);
        CHECK(model.at("w").bytes.size() == 8);
    }
    moe_test::write_file(directory.file("one"), shard(0, 1, "w", 1));
    const GgufShards one = GgufShards::open(directory.file("one"));
    CHECK(one.n_tensors() == 1);
}

TEST_CASE("shards that do not belong together are refused", "[io][gguf]") {
    Split split;
    split.write();
    const auto rewrite = [&](int number, const Bytes& bytes) { moe_test::write_file(split.path(number), bytes); };
    SECTION("one is missing") {
        std::filesystem::remove(split.path(2));
        check_refused(split.path(1), ErrorCode::file, "x-00002-of-00003.gguf");
    }
    SECTION("one is damaged") {
        rewrite(3, Bytes(10));
        check_refused(split.path(1), ErrorCode::header, "x-00003-of-00003.gguf");
    }
    SECTION("one is cut off") {
        rewrite(3, Bytes(split.shards[2].begin(), split.shards[2].end() - 1));
        check_refused(split.path(1), ErrorCode::truncated, "x-00003-of-00003.gguf");
    }
    SECTION("two have changed places") {
        rewrite(2, split.shards[2]);
        check_refused(split.path(1), ErrorCode::layout,
                      "x-00002-of-00003.gguf': by its metadata it is shard 2 of 3, counted from 0, by its name 1 of 3");
    }
    SECTION("one is of another splitting") {
        rewrite(3, shard(2, 4, "b"));
        check_refused(split.path(1), ErrorCode::layout, "shard 2 of 4");
    }
    SECTION("one is no shard") {
        rewrite(2, file({}, {}));
        check_refused(split.path(1), ErrorCode::not_found, "'split.no'");
    }
    SECTION("a tensor stands in two") {
        rewrite(2, shard(1, 3, "b"));
        check_refused(split.path(1), ErrorCode::duplicate, "two of its 3 shards have a tensor named 'b'");
    }
    SECTION("tensors are missing") {
        rewrite(1, shard(0, 3, "c", 4));
        check_refused(split.path(2), ErrorCode::layout, "hold 3 tensors, but split.tensors.count is 4");
    }
    SECTION("the number of tensors is negative") {
        rewrite(1, shard(0, 3, "c", -1));
        check_refused(split.path(2), ErrorCode::range, "'split.tensors.count' is -1");
    }
    SECTION("the number of shards is a string") {
        rewrite(1, file({entry("split.count", 8, text("3"))}, {}));
        check_refused(split.path(1), ErrorCode::unknown_type, "'split.count' is STRING");
    }
    SECTION("a name that says nothing of the others") {
        for (const std::string name :
             {"x.gguf", "x-00001-of-00004.gguf", "x-00000-of-00003.gguf", "x-00004-of-00003.gguf", "x-1-of-3.gguf",
              "x-0000a-of-00003.gguf", "x-+0001-of-00003.gguf", "x_00001-of-00003.gguf", "x-00001-of-00003.GGUF"}) {
            INFO(name);
            moe_test::write_file(split.directory.file(name), split.shards[0]);
            check_refused(split.directory.file(name), ErrorCode::missing, "it is one of 3 shards");
        }
    }
}

}  // namespace moe_test::gguf_shards_test
