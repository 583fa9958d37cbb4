#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <sys/stat.h>

#include "io/support.hpp"
#include "moe/io.hpp"
#include "support/catch.hpp"

namespace moe_test::safetensors_file_test {

namespace {

using moe::ErrorCode;
using moe::ReadMode;
using moe::SafetensorsFile;
using moe_test::Bytes;
using moe_test::caught;
using moe_test::TemporaryDirectory;

constexpr std::array both_modes{ReadMode::map, ReadMode::read};
const std::string blocks_directory = std::string(MOE_TEST_DATA_DIR) + "/golden/blocks/";

std::vector<moe::TensorToWrite> one_tensor(const std::vector<float>& values) {
    return {moe::tensor_to_write<float>("values", {values.size()}, values)};
}

template <class Action>
void check_file_error(Action&& action, const std::string& fragment, const std::string& name) {
    const auto error = caught(action);
    REQUIRE(error.has_value());
    CHECK(static_cast<int>(error->code) == static_cast<int>(ErrorCode::file));
    CHECK_THAT(error->text, moe_test::contains(fragment));
    CHECK_THAT(error->text, moe_test::contains(name));
}

/// Files of this process cannot grow beyond `bytes` while it lives: what a full device looks like to a writer.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        (void)::getrlimit(RLIMIT_FSIZE, &old_);
        rlimit limit = old_;
        limit.rlim_cur = bytes;
        (void)::setrlimit(RLIMIT_FSIZE, &limit);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;
    ~FileSizeLimit() {
        (void)::setrlimit(RLIMIT_FSIZE, &old_);
        (void)std::signal(SIGXFSZ, old_handler_);
    }

private:
    void (*old_handler_)(int);
    rlimit old_{};
};

}  // namespace

TEST_CASE("what cannot be read as a file says why", "[io][safetensors]") {
    const TemporaryDirectory directory;
    const std::string pipe = directory.file("pipe.safetensors");
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    for (const ReadMode mode : both_modes) {
        const auto open = [mode](const std::string& path) {
            return [mode, path] { (void)SafetensorsFile::open(path, mode); };
        };
        check_file_error(open(directory.file("none.safetensors")), "No such file", "none.safetensors");
        check_file_error(open(directory.file("")), "it is a directory", "moe-io-test");
        check_file_error(open(directory.file("pipe.safetensors/x")), "cannot open", "pipe.safetensors/x");
        check_file_error(open(pipe), "not a regular file", "pipe.safetensors");
        check_file_error(open(""), "No such file", "''");
    }
}

TEST_CASE("errors of a file name it and the tensor", "[io][safetensors]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("bad.safetensors");
    moe_test::write_file(path, moe_test::file_of(R"({"w.1":{"dtype":"Q4","shape":[0],"data_offsets":[0,0]}})"));
    for (const ReadMode mode : both_modes) {
        const auto error = caught([&] { (void)SafetensorsFile::open(path, mode); });
        REQUIRE(error.has_value());
        CHECK(error->text == "safetensors file '" + path + "': tensor 'w.1': unknown dtype 'Q4'");
    }
}

TEST_CASE("a tensor that is not there is named, with the file", "[io][safetensors]") {
    const std::string path = blocks_directory + "mixtral.safetensors";
    const SafetensorsFile file = SafetensorsFile::open(path);
    CHECK(file.find("no.such.tensor") == nullptr);
    CHECK(file.find("") == nullptr);
    const auto error = caught([&] { (void)file.at("no.such.tensor"); });
    REQUIRE(error.has_value());
    CHECK(static_cast<int>(error->code) == static_cast<int>(ErrorCode::not_found));
    CHECK_THAT(error->text, moe_test::contains("'no.such.tensor'"));
    CHECK_THAT(error->text, moe_test::contains("mixtral.safetensors"));
}

TEST_CASE("views outlive a move of the file", "[io][safetensors]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("a.safetensors");
    const std::vector<float> values{1, 2, 3};
    moe::write_safetensors(path, one_tensor(values));
    for (const ReadMode mode : both_modes) {
        SafetensorsFile first = SafetensorsFile::open(path, mode);
        const moe::TensorView tensor = first.at("values");
        SafetensorsFile second = std::move(first);
        CHECK(tensor.to_vector<float>() == values);
        CHECK(second.at("values").bytes.data() == tensor.bytes.data());
        SafetensorsFile third = SafetensorsFile::open(path, mode);
        third = std::move(second);
        CHECK(tensor.to_vector<float>() == values);
        CHECK(third.at("values").bytes.data() == tensor.bytes.data());
    }
}

TEST_CASE("a file that is replaced leaves an open one as it was", "[io][safetensors]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("a.safetensors");
    const std::vector<float> before(5000, 1.0F);
    const std::vector<float> after{2.0F};
    moe::write_safetensors(path, one_tensor(before));
    const SafetensorsFile mapped = SafetensorsFile::open(path, ReadMode::map);
    moe::write_safetensors(path, one_tensor(after));
    CHECK(mapped.at("values").to_vector<float>() == before);
    const SafetensorsFile opened = SafetensorsFile::open(path);
    CHECK(opened.at("values").to_vector<float>() == after);
    CHECK(directory.entries() == 1);
}

TEST_CASE("a copied file does not care what becomes of the one on disk", "[io][safetensors]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("a.safetensors");
    const std::vector<float> values(5000, 3.0F);
    moe::write_safetensors(path, one_tensor(values));
    const SafetensorsFile copied = SafetensorsFile::open(path, ReadMode::read);
    std::filesystem::resize_file(path, 10);
    CHECK(copied.at("values").to_vector<float>() == values);
}

TEST_CASE("a write that fails leaves no file and keeps the old one", "[io][safetensors]") {
    const TemporaryDirectory directory;
    const std::vector<float> values(5000, 1.0F);
    const auto write = [&](const std::string& path) {
        return [&, path] { moe::write_safetensors(path, one_tensor(values)); };
    };

    SECTION("no such directory") {
        check_file_error(write(directory.file("none/a.safetensors")), "No such file", "none/a.safetensors");
        CHECK(directory.entries() == 0);
    }
    SECTION("below a file") {
        moe_test::write_file(directory.file("plain"), {});
        check_file_error(write(directory.file("plain/a.safetensors")), "Not a directory", "plain/a.safetensors");
        CHECK(directory.entries() == 1);
    }
    SECTION("over a directory") {
        std::filesystem::create_directory(directory.file("taken"));
        check_file_error(write(directory.file("taken")), "cannot replace", "taken");
        CHECK(directory.entries() == 1);
    }
    SECTION("on a device that is full, over an older file") {
        const std::string path = directory.file("a.safetensors");
        const std::vector<float> old{7.0F};
        moe::write_safetensors(path, one_tensor(old));
        std::optional<moe_test::Caught> error;
        {
            const FileSizeLimit limit(1000);
            error = caught(write(path));
        }
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(ErrorCode::file));
        CHECK_THAT(error->text, moe_test::contains("cannot write"));
        CHECK(directory.entries() == 1);
        const SafetensorsFile opened = SafetensorsFile::open(path);
        CHECK(opened.at("values").to_vector<float>() == old);
    }
}

TEST_CASE("a leftover of an earlier process is no obstacle", "[io][safetensors]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("a.safetensors");
    const std::string leftover = path + ".part-" + std::to_string(::getpid()) + "-0";
    moe_test::write_file(leftover, Bytes(3));
    const std::vector<float> values{1.0F};
    moe::write_safetensors(path, one_tensor(values));
    const SafetensorsFile opened = SafetensorsFile::open(path);
    CHECK(opened.at("values").to_vector<float>() == values);
    CHECK(moe_test::read_file(leftover) == Bytes(3));
}

TEST_CASE("mapped, copied and parsed, a real file is the same", "[io][safetensors][golden]") {
    const std::string path = blocks_directory + "mixtral.safetensors";
    const SafetensorsFile mapped = SafetensorsFile::open(path, ReadMode::map);
    const SafetensorsFile copied = SafetensorsFile::open(path, ReadMode::read);
    const Bytes bytes = moe_test::read_file(path);
    const SafetensorsFile parsed = SafetensorsFile::parse(bytes);

    CHECK(mapped.metadata().at("block") == "transformers 5.17.0 mixtral.MixtralSparseMoeBlock");
    CHECK(mapped.at("input").shape == std::vector<std::size_t>{29, 40});
    CHECK(mapped.at("param.experts.gate_up_proj").shape == std::vector<std::size_t>{8, 56, 40});
    for (const SafetensorsFile* other : {&copied, &parsed}) {
        CHECK(other->metadata() == mapped.metadata());
        REQUIRE(other->tensors().size() == mapped.tensors().size());
        for (std::size_t i = 0; i < mapped.tensors().size(); ++i) {
            const moe::TensorView& a = mapped.tensors()[i];
            const moe::TensorView& b = other->tensors()[i];
            CHECK(a.name == b.name);
            CHECK(a.shape == b.shape);
            CHECK(a.dtype == b.dtype);
            CHECK(std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end()));
        }
    }
}

TEST_CASE("every golden file is read and written back with equal tensors", "[io][safetensors][golden]") {
    std::size_t files = 0;
    for (const auto& item : std::filesystem::directory_iterator(blocks_directory)) {
        if (item.path().extension() != ".safetensors") {
            continue;
        }
        ++files;
        INFO(item.path().filename().string());
        const SafetensorsFile file = SafetensorsFile::open(item.path().string());
        std::vector<moe::TensorToWrite> tensors;
        for (const moe::TensorView& tensor : file.tensors()) {
            tensors.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.bytes});
        }
        const Bytes again = moe::safetensors_bytes(tensors, file.metadata());
        const SafetensorsFile copy = SafetensorsFile::parse(again);
        CHECK(copy.metadata() == file.metadata());
        REQUIRE(copy.tensors().size() == file.tensors().size());
        for (const moe::TensorView& tensor : file.tensors()) {
            const auto& same = copy.at(tensor.name).bytes;
            CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), same.begin(), same.end()));
        }
    }
    CHECK(files == 17);
}

TEST_CASE("threads may look up and convert tensors of one file", "[io][safetensors][threads]") {
    const SafetensorsFile file = SafetensorsFile::open(blocks_directory + "mixtral.safetensors");
    const std::vector<double> expected = file.at("input").to_double_vector();
    std::array<bool, 4> equal{};
    std::vector<std::thread> threads;
    for (bool& result : equal) {
        threads.emplace_back([&] { result = file.at("input").to_double_vector() == expected; });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(equal == std::array<bool, 4>{true, true, true, true});
}

}  // namespace moe_test::safetensors_file_test
