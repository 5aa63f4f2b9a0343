func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %v, %i = moe.sort %x : (tensor<4xf32>) -> (tensor<4xf32>, tensor<4xi32>)
  return %v : tensor<4xf32>
}
