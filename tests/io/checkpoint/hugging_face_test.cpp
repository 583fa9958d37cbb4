#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/checkpoint/made_folder.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

/// Folders as each architecture has them, against the same weights composed by hand.
namespace moe_test::hugging_face_test {

using namespace moe_test::made_folder;

TEST_CASE("a folder of each architecture is the layer that its weights compose", "[io][checkpoint]") {
    Draw draw(17);
    std::size_t n_rows = 0;
    for (const Row& row : rows()) {
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
            INFO(row.type << " " << moe::dtype_name(dtype));
            const Made made(row, dtype, draw);
            const moe_test::TemporaryDirectory folder;
            write_text(folder.file("config.json"), made.config_text());
            moe::write_safetensors(folder.file("model.safetensors"), made.tensors());
            const auto checkpoint = moe::Checkpoint::open(folder.file(""));
            const std::size_t layer = 1;
            REQUIRE(checkpoint.is_sparse(layer));
            const std::vector<float> x = values(draw, 5 * d_model);
            const std::vector<float> wanted = outputs_of(made.layer(), x);
            CHECK(moe_test::same_bits(outputs_of(checkpoint.layer(layer), x), wanted));
            CHECK(checkpoint.tensors(layer).size() == made.tensors().size());
            const moe::MoEConfig config = checkpoint.config(layer);
            const std::size_t n_matrices = config.form.gated() ? 3 : 2;
            CHECK(brings_experts(checkpoint, layer, x, wanted,
                                 n_matrices * config.d_ff * config.d_model * moe::dtype_size(dtype)));
            if (dtype == DType::bf16) {
                CHECK(moe_test::same_bits(outputs_of(checkpoint.pack(layer), x), wanted));
            }
        }
        ++n_rows;
    }
    CHECK(n_rows == 56);
}

TEST_CASE("a layer keeps the files of its checkpoint, a packed one does not need them", "[io][checkpoint]") {
    Draw draw(18);
    const Made made(rows().front(), DType::bf16, draw);
    const std::vector<float> x = values(draw, 3 * d_model);
    const std::vector<float> wanted = outputs_of(made.layer(), x);
    std::vector<moe::AnyLayer<float>> layers;
    {
        const moe_test::TemporaryDirectory folder;
        write_text(folder.file("config.json"), made.config_text());
        moe::write_safetensors(folder.file("model.safetensors"), made.tensors());
        const auto checkpoint = moe::Checkpoint::open(folder.file(""));
        layers.push_back(checkpoint.layer(1));
        layers.push_back(checkpoint.pack(1));
        layers.push_back(moe::pack(layers.front()));
    }
    for (const moe::AnyLayer<float>& layer : layers) {
        CHECK(moe_test::same_bits(outputs_of(layer, x), wanted));
    }
}

TEST_CASE("shards with an index are the layer of one file", "[io][checkpoint]") {
    Draw draw(20);
    const Made made(rows().front(), DType::f32, draw);
    const std::vector<float> x = values(draw, 3 * d_model);
    const moe_test::TemporaryDirectory folder;
    write_text(folder.file("config.json"), made.config_text());
    std::vector<moe::TensorToWrite> shards[2];
    std::string index = R"({"metadata":{"total_size":1},"weight_map":{)";
    for (std::size_t i = 0; i < made.tensors().size(); ++i) {
        shards[i % 2].push_back(made.tensors()[i]);
        index += (i > 0 ? ",\"" : "\"") + made.tensors()[i].name + "\":\"" + std::to_string(i % 2) + ".safetensors\"";
    }
    write_text(folder.file("model.safetensors.index.json"), index + "}}");
    for (std::size_t i = 0; i < 2; ++i) {
        moe::write_safetensors(folder.file(std::to_string(i) + ".safetensors"), shards[i]);
    }
    const std::vector<float> wanted = outputs_of(made.layer(), x);
    CHECK(moe_test::same_bits(outputs_of(moe::Checkpoint::open(folder.file("")).layer(1), x), wanted));

    shards[1].push_back(shards[0].back());  // in both
    moe::write_safetensors(folder.file("1.safetensors"), shards[1]);
    const auto open = [&](moe::Strictness strictness) {
        return moe_test::caught([&] { (void)moe::Checkpoint::open(folder.file(""), strictness); });
    };
    for (const moe::Strictness strictness : {moe::Strictness::strict, moe::Strictness::lenient}) {
        const auto error = open(strictness);
        REQUIRE(error.has_value());
        CHECK(error->code == moe::ErrorCode::duplicate);
    }
    shards[1].back().name = "other";  // which the index does not name
    moe::write_safetensors(folder.file("1.safetensors"), shards[1]);
    const auto error = open(moe::Strictness::strict);
    REQUIRE(error.has_value());
    CHECK(error->code == moe::ErrorCode::layout);
    CHECK_FALSE(open(moe::Strictness::lenient).has_value());
}

TEST_CASE("the demo model is read in one way by hand and by its folder", "[io][checkpoint]") {
    const std::string path = std::string(MOE_TEST_EXAMPLES_DIR) + "/models/tiny-mixtral";
    const auto checkpoint = moe::Checkpoint::open(path);
    CHECK(checkpoint.architecture() == "mixtral");
    REQUIRE(checkpoint.n_layers() == 4);
    const auto file = moe::SafetensorsFile::open(path + "/model.safetensors");
    Draw draw(19);
    const std::vector<float> x = values(draw, 7 * 128);
    for (std::size_t i = 0; i < 4; ++i) {
        const std::string room = "model.layers." + std::to_string(i) + ".block_sparse_moe.";
        MoEConfig config = checkpoint.config(i);
        CHECK(config.n_experts == 8);
        CHECK(config.d_ff == 192);
        const std::vector<float> router = file.at(room + "gate.weight").to_float_vector();
        std::vector<std::vector<float>> kept[3];
        std::vector<const float*> pointers[3];
        const char* const names[] = {".w1.weight", ".w3.weight", ".w2.weight"};
        for (std::size_t j = 0; j < 3; ++j) {
            for (std::size_t e = 0; e < 8; ++e) {
                kept[j].push_back(file.at(room + "experts." + std::to_string(e) + names[j]).to_float_vector());
                pointers[j].push_back(kept[j].back().data());
            }
        }
        moe::LayerWeights<float> weights;
        weights.router = moe::view(router.data(), 8, 128);
        weights.experts = moe::expert_weights<float>(config, {.gate = moe::separate(pointers[0], 192, 128),
                                                              .up = moe::separate(pointers[1], 192, 128),
                                                              .down = moe::separate(pointers[2], 128, 192)});
        const moe::AnyLayer<float> layer = moe::make_layer(config, weights);
        CHECK(moe_test::same_bits(outputs_of(checkpoint.layer(i), x), outputs_of(layer, x)));
    }
}

}  // namespace moe_test::hugging_face_test
